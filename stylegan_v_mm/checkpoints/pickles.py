"""Read pickled networks without executing anything in them.

``pickle`` calls whatever a file asks it to call. Here, the standard library's
disassembler reads the instructions of a file, and they create nothing but
plain values and containers. Where an instruction asks for another object, a
:class:`Record` notes what it asks for, and tensors are built from the records.

No instruction is followed twice, and no value is larger than the file, so that
the size of the file bounds time and memory.
"""

import io
import mmap
import pickletools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError

# The names that published snapshots use, and those of PyTorch's own format for
# tensors inside a pickle.
_KNOWN = re.compile(
    r"""
    (src\.)?torch_utils\.persistence\._reconstruct_persistent_obj
    | (src\.)?dnnlib(\.util)?\.EasyDict
    | (src\.)?training\.\w+\.\w+
    | omegaconf\.\w+\.\w+
    | typing\.Any
    | builtins\.(bool|bytes|dict|float|int|list|object|set|str|tuple)
    | collections\.(OrderedDict|defaultdict)
    | numpy\.(dtype|ndarray)
    | numpy\._?core\.multiarray\.(scalar|_reconstruct)
    | torch\.(device|Size|bool|uint8|int32|int64|float16|float32|float64)
    | torch\.\w+Storage
    | torch\._utils\._rebuild_(tensor_v2|parameter)
    | torch\.storage\._load_from_bytes
    | torch\.nn\.modules\.\w+\.\w+
    | torch\.nn\.parameter\.Parameter
    | torch\.optim\.\w+\.\w+
    """,
    re.VERBOSE | re.ASCII,
)
# Types that are read as dicts.
_DICTS = ('OrderedDict', 'defaultdict', 'EasyDict')

# A snapshot with its optimizers has about 300,000 instructions, and each may
# cost 100 bytes.
_MOST_INSTRUCTIONS = 2_000_000
_MOST_IN_A_STORAGE = 200

# First bytes of files that are not pickles -> what they are.
_OTHER_FILES = {
    b'PK\x03\x04': 'a zip file. If it is a checkpoint (.pth), it needs no '
    'conversion',
    b'\x1f\x8b': 'compressed: unpack it with gunzip',
    b'version https://git-lfs': 'a Git LFS pointer, not the file itself: get '
    'it with git lfs pull',
    b'<': 'a web page instead of the file: download it again',
}


class Record:
    """An object that a pickle asks for but that is not created.

    Attributes:
        name (str): Module and name of a function or class.
        args (tuple, optional): Arguments of the call; None for the function
            or class itself.
        state: State of the object; None if it has none.
    """

    __slots__ = ('args', 'name', 'state')

    def __init__(self, name: str, args: tuple | None = None):
        self.name = name
        self.args = args
        self.state: Any = None

    def __repr__(self) -> str:
        return f'Record({self.name!r})'


def read_pickle(path: Path) -> Any:
    """Read a pickle of protocol 2 to 5 as plain values and records.

    Args:
        path (Path): The file.

    Returns:
        Its content: None, numbers, str, bytes, tuples, lists (also for sets),
        dicts, and a :class:`Record` for every other object.

    Raises:
        InputError: The file is missing or damaged, asks for a name that
            published snapshots do not need, or has too many instructions.
    """
    try:
        with path.open('rb') as file:
            start = file.read(1024)
            if not start:
                raise InputError('it is empty')
            for magic, words in _OTHER_FILES.items():
                if start.lstrip().startswith(magic):
                    raise InputError(f'it is {words}')
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return interpret(data)
    except OSError as error:
        raise InputError(f'it cannot be read: {error.strerror}') from error


def parse_pickle(content: bytes) -> Any:
    """Read a pickle that is in memory, see :func:`read_pickle`."""
    return interpret(io.BytesIO(content))


def _known(module: object, name: object) -> Record:
    """Return the record of a function or class that snapshots use."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError('it asks for a name that is not a string')
    full = f'{module}.{name}'
    if not _KNOWN.fullmatch(full):
        raise InputError(
            f'it asks for {full[:100]!r}, which no published snapshot needs. '
            'Nothing in it was executed'
        )
    return Record(full)


def _called(function: object, args: object) -> Record | dict:
    """Return the record of a call; an empty dict if it creates a dict."""
    if not isinstance(function, Record) or function.args is not None:
        raise ValueError('it calls something that is not a function')
    if not isinstance(args, tuple):
        raise ValueError('it calls a function without arguments')
    if function.name.endswith(_DICTS):
        return {}
    return Record(function.name, args)


def _put(target: object, pairs: Iterator[tuple]) -> None:
    if not isinstance(target, dict):
        raise ValueError('it sets items of something that is not a dict')
    for key, value in pairs:
        # Hashing nested tuples can take very long, and any number of huge
        # integers can have the same hash.
        if not isinstance(key, str | bytes | int | float | Record | None):
            raise ValueError('it has a key that is neither text nor number')
        if isinstance(key, int) and abs(key) >= 2**60:
            raise ValueError('it has a huge number as a key')
        target[key] = value


def interpret(stream: Any, in_storage: bool = False) -> Any:
    """Interpret one pickle to its end, and return its content.

    Args:
        stream (BinaryIO or mmap): A file at the start of the pickle.
        in_storage (bool): Whether the pickle is one of those that describe a
            storage, which are short and have persistent ids.
    """
    try:
        return _run(stream, in_storage)
    except InputError:
        raise
    except (ValueError, LookupError, OverflowError, MemoryError) as error:
        reason = str(error)[:100] or type(error).__name__
        raise InputError(
            f'it is not a complete pickle, but cut off, damaged or another '
            f'kind of file ({reason})'
        ) from error


def _run(stream: Any, in_storage: bool) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    budget = _MOST_IN_A_STORAGE if in_storage else _MOST_INSTRUCTIONS

    def since_mark() -> list:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    arg: Any
    for count, (instruction, arg, _) in enumerate(pickletools.genops(stream)):
        if count == budget:
            raise InputError(
                f'it has more than {budget} pickle instructions, which no '
                'snapshot needs'
            )
        match instruction.name:
            case 'BINGET' | 'LONG_BINGET':
                stack.append(memo[arg])
            case 'MEMOIZE':
                memo[len(memo)] = stack[-1]
            case 'BINPUT' | 'LONG_BINPUT':
                memo[arg] = stack[-1]
            case (
                'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT'
                | 'SHORT_BINUNICODE' | 'BINUNICODE' | 'BINUNICODE8'
                | 'SHORT_BINBYTES' | 'BINBYTES' | 'BINBYTES8'
            ):  # fmt: skip
                stack.append(arg)
            case 'NONE':
                stack.append(None)
            case 'NEWTRUE':
                stack.append(True)
            case 'NEWFALSE':
                stack.append(False)
            case 'EMPTY_TUPLE':
                stack.append(())
            case 'EMPTY_DICT':
                stack.append({})
            case 'EMPTY_LIST' | 'EMPTY_SET':
                stack.append([])
            case 'MARK':
                marks.append(len(stack))
            case 'TUPLE':
                stack.append(tuple(since_mark()))
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                width = int(instruction.name[-1])
                if len(stack) < width:
                    raise ValueError('it takes more values than there are')
                stack[-width:] = [tuple(stack[-width:])]
            case 'APPEND':
                value = stack.pop()
                _list(stack[-1]).append(value)
            case 'APPENDS' | 'ADDITEMS':
                values = since_mark()
                _list(stack[-1]).extend(values)
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                _put(stack[-1], iter([(key, value)]))
            case 'SETITEMS':
                values = since_mark()
                pairs = zip(values[::2], values[1::2], strict=True)
                _put(stack[-1], pairs)
            case 'GLOBAL':
                stack.append(_known(*arg.split(' ', 1)))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                stack.append(_known(module, name))
            case 'REDUCE' | 'NEWOBJ':
                args, function = stack.pop(), stack.pop()
                stack.append(_called(function, args))
            case 'BUILD':
                state, target = stack.pop(), stack[-1]
                if isinstance(target, Record) and target.args is not None:
                    target.state = state
                elif not isinstance(target, dict):
                    raise ValueError(
                        'it sets the state of something that is not an object'
                    )
            case 'BINPERSID' if in_storage:
                stack.append(Record('persistent', (stack.pop(),)))
            case 'PROTO' | 'FRAME':
                pass
            case 'STOP':
                return stack.pop()
            case name:
                raise InputError(
                    f'it uses the pickle instruction {name}, which no '
                    'published snapshot needs'
                )
    raise ValueError('no STOP')


def _list(value: object) -> list:
    if not isinstance(value, list):
        raise ValueError('it appends to something that is not a list')
    return value
