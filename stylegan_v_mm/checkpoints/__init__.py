"""Read, write and convert weights without executing anything in them."""
