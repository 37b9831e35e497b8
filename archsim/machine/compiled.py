"""Loops as machine code: compiled once with numba (extra ``[fast]``), kept, loaded without it.

numba takes half a second to import, more than the loops save in most runs. So what it makes of a
function is kept as an object file, and later runs load that with llvmlite, in 30 ms.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard

import numpy as np

from archsim.errors import ConfigError, InvariantError, one_line
from archsim.files import atomic_path
from archsim.machine import blas

SWITCH = "ARCHSIM_COMPILED"
"""Environment variable: 0 never runs compiled code, 1 always does, unset runs it where it pays."""

Kind = tuple[str, int]
"""An argument's type: dtype and dimensions, 0 of a number."""

_NUMBERS: dict[type, Kind] = {t: (np.dtype(t).str, 0) for t in (np.int64, np.float64)}
_NUMBERS |= {int: _NUMBERS[np.int64], float: _NUMBERS[np.float64]}

_SOURCES = (__file__, blas.__file__)
"""Besides its own, the sources that a function's machine code depends on."""

_loading = threading.Lock()


class NotCompiledError(ConfigError):
    """There is no machine code to be had; whoever was not asked for it goes on without."""


def available() -> bool:
    """Whether numba is installed; does not import it."""
    return find_spec("numba") is not None


def asked_for() -> bool:
    """Whether the user wants compiled code, and not numpy instead where there is none."""
    return os.environ.get(SWITCH, "") == "1"


def worth_compiling(large: bool) -> bool:
    """Whether to use compiled code: asked for, or the work is `large`.

    Raises ConfigError if `SWITCH` asks for numba and it is not installed.
    """
    asked = os.environ.get(SWITCH, "")
    if asked not in {"", "0", "1"}:
        raise ConfigError(f"{SWITCH}={asked}: use 0, 1 or nothing")
    if asked == "1" and not available():
        raise ConfigError(f"{SWITCH}=1 needs numba: pip install 'archsim[fast]'")
    if asked:
        return asked == "1"
    return large and available()


class Kernel:
    """A function that runs as machine code, without the interpreter's lock.

    It takes contiguous arrays, ints and floats, and returns an int or nothing. It allocates no
    memory and raises nothing; functions of its own package that it calls are compiled with it.
    `interpreted` is the function as it is written.
    """

    def __init__(self, function: Callable[..., int | None]) -> None:
        assert isinstance(function, FunctionType)
        functools.update_wrapper(self, function)
        self.interpreted = function
        self._compiled: dict[tuple[Kind, ...], Callable[..., int]] = {}

    def __call__(self, *arguments: Any) -> int:
        """Run it compiled; 0 if it returns nothing.

        Raises NotCompiledError if it is not compiled yet and cannot be now: numba or llvmlite does
        not load, or the user did not ask and there is no folder to keep machine code in.
        """
        values: list[float] = []
        kinds = tuple([_take(argument, values) for argument in arguments])
        compiled = self._compiled.get(kinds)
        if compiled is None:
            with _loading:
                if kinds not in self._compiled:
                    self._compiled[kinds] = _load(self.interpreted, kinds)
            compiled = self._compiled[kinds]
        return compiled(*values)


def _take(argument: Any, values: list[float]) -> Kind:
    """Append what the machine code is handed of an argument, and return its kind."""
    if isinstance(argument, np.ndarray):
        if not argument.flags.c_contiguous:
            raise InvariantError("an array for compiled code does not lie in one piece")
        values.append(argument.ctypes.data)
        values += argument.shape
        return argument.dtype.str, argument.ndim
    kind = _NUMBERS.get(type(argument))
    if kind is None:
        raise InvariantError(f"compiled code takes no {type(argument).__name__}")
    values.append(argument)
    return kind


def _load(function: FunctionType, kinds: tuple[Kind, ...]) -> Callable[..., int]:
    """The function's machine code for arguments of some kinds, from disk or compiled now."""
    try:
        machine = _machine()
    except (ImportError, OSError) as error:
        raise _not_compiled(error) from None
    name = f"{Path(function.__code__.co_filename).stem}-{function.__name__}"
    files = dict.fromkeys(each.__code__.co_filename for each in _with_all_callees(function))
    sources = [Path(path).read_bytes() for path in (*files, *_SOURCES)]
    source = hashlib.sha256(b"".join(sources) + repr(_constants(function)).encode())
    version_ = source.hexdigest()[:16]
    key = hashlib.sha256(repr((version_, machine.version, name, kinds)).encode()).hexdigest()[:32]
    symbol, file = f"archsim_{key}", f"archsim.{name}.{version_}.{key}.o"
    code = _kept(function, file)
    if code is None:
        if not asked_for() and not any(_writable(place) for place in _places(function)):
            raise _not_compiled("no folder to keep it in")
        _announce()
        try:
            code = machine.compile(function, kinds, symbol)
        except (ImportError, OSError) as error:
            raise _not_compiled(error) from None
        _keep(function, file, code)
    arguments = [c_type for kind in kinds for c_type in _c_types(kind)]
    return ctypes.CFUNCTYPE(ctypes.c_int64, *arguments)(machine.address(code, symbol))


def _beside(callee: object, caller: FunctionType) -> TypeGuard[FunctionType]:
    """Whether it is a function of the caller's package, which is compiled with it."""
    package = str(caller.__module__).split(".")[0]
    return isinstance(callee, FunctionType) and str(callee.__module__).split(".")[0] == package


def _with_all_callees(function: FunctionType) -> list[FunctionType]:
    """The function and all those of its package that it calls, at any depth."""
    found, waiting = [function], [function]
    while waiting:
        caller = waiting.pop()
        for name in caller.__code__.co_names:
            callee = caller.__globals__.get(name)
            if _beside(callee, caller) and callee not in found:
                found.append(callee)
                waiting.append(callee)
    return found


def _constants(function: FunctionType) -> list[tuple[str, str]]:
    """Numbers of the module that machine code would hold as they are now, from wherever they came.

    Their own source may be another module's, which no hash of this one notices.
    """
    scope = function.__globals__
    kinds = (bool, int, float, np.generic, tuple)
    return sorted((name, repr(value)) for name, value in scope.items() if isinstance(value, kinds))


def _not_compiled(reason: object) -> NotCompiledError:
    text = one_line(reason, 120)
    return NotCompiledError(f"no compiled code: {text}; mend that, or set {SWITCH}=0")


@functools.cache
def _announce() -> None:
    """Say once why a run takes longer, to who looks at it."""
    if sys.stderr.isatty():
        print("compiling for this processor, once: some ten seconds", file=sys.stderr)


def _writable(place: Path) -> bool:
    """Whether a folder is there, or could be, to write to."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK)


def _places(function: FunctionType) -> Iterator[Path]:
    """Where a function's machine code is kept: beside Python's own, else with the user's caches."""
    yield Path(function.__code__.co_filename).parent / "__pycache__"
    with suppress(RuntimeError):  # no home
        caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
        yield (caches if caches.is_absolute() else Path.home() / ".cache") / "archsim"


def _kept(function: FunctionType, file: str) -> bytes | None:
    """Machine code from disk, if it is there and whole."""
    for place in _places(function):
        with suppress(OSError):
            digest, code = (content := (place / file).read_bytes())[:32], content[32:]
            if hashlib.sha256(code).digest() == digest:
                return code
    return None


def _keep(function: FunctionType, file: str, code: bytes) -> None:
    """Write machine code to the first place that can be written, if any.

    Beside Python's own, that of earlier versions of the function goes; the user's caches may serve
    several installations.
    """
    _, name, source, *_ = file.split(".")
    for number, place in enumerate(_places(function)):
        with suppress(ConfigError, OSError):
            with atomic_path(place / file) as temporary:
                temporary.write_bytes(hashlib.sha256(code).digest() + code)
            for old in place.glob(f"archsim.{name}.*.o") if number == 0 else ():
                if old.name.split(".")[2] != source:
                    old.unlink(missing_ok=True)
            return


@functools.cache
def _machine() -> _Machine:
    return _Machine()


class _Machine:
    """This machine's compiler back end, and the machine code loaded so far."""

    def __init__(self) -> None:
        import llvmlite
        import llvmlite.binding as llvm

        self._llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        self._target = llvm.Target.from_default_triple().create_target_machine(
            cpu=cpu, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
        )
        self.version = (version("numba"), llvmlite.__version__, self._target.triple, cpu, features)
        self._linker = llvm.create_lljit_compiler(self._target)
        self._linked: list[Any] = []  # code stays in memory as long as this does

    def address(self, code: bytes, name: str) -> int:
        """Load an object file; where the function of that name begins in memory."""
        library = self._llvm.JITLibraryBuilder().add_object_img(code).export_symbol(name)
        library.add_current_process()  # for what LLVM makes calls of, like memset
        self._linked.append(library.link(self._linker, f"{name}.{len(self._linked)}"))
        return int(self._linked[-1][name])

    def compile(self, function: FunctionType, kinds: tuple[Kind, ...], name: str) -> bytes:
        """An object file with the function under a name.

        Raises InvariantError if the code would need numba where it runs.
        """
        import numba

        llvm = self._llvm
        types, entry = _entry(function, kinds)
        compiled = numba.cfunc(numba.int64(*types), error_model="numpy")(entry)
        assembly = compiled.inspect_llvm().replace(compiled.native_name, name)
        module = llvm.parse_assembly(assembly)
        for part in module.functions:
            if not part.is_declaration and part.name != name:
                part.linkage = "internal"  # so that what is not called goes, and errors with it
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        passes = llvm.create_pass_builder(self._target, options)
        passes.getModulePassManager().run(module, passes)
        needed = [
            part.name
            for part in module.functions
            if part.is_declaration and not part.name.startswith("llvm.")
        ]
        if needed:
            raise InvariantError(f"{function.__name__} as machine code needs {', '.join(needed)}")
        return bytes(self._target.emit_object(module))


def _c_types(kind: Kind) -> list[Any]:
    """What an argument of a kind is to ctypes."""
    dtype, dimensions = kind
    if dimensions == 0:
        return [ctypes.c_double if dtype == _NUMBERS[float][0] else ctypes.c_int64]
    return [ctypes.c_void_p] + [ctypes.c_int64] * dimensions


def _entry(function: FunctionType, kinds: tuple[Kind, ...]) -> tuple[list[Any], FunctionType]:
    """numba types and a function of pointers and numbers that calls `function` with arrays."""
    import numba

    types: list[Any] = []
    arguments = []
    for dtype, dimensions in kinds:
        first, scalar = len(types), numba.from_dtype(np.dtype(dtype))
        if dimensions == 0:
            types.append(scalar)
            arguments.append(f"x{first}")
            continue
        types.append(numba.types.CPointer(scalar))  # type: ignore[no-untyped-call]
        types += [numba.int64] * dimensions
        shape = ", ".join(f"x{n}" for n in range(first + 1, len(types)))
        arguments.append(f"carray(x{first}, ({shape},))")
    lines = [
        f"def entry({', '.join(f'x{n}' for n in range(len(types)))}):",
        f"    result = call({', '.join(arguments)})",
        "    return 0 if result is None else result",
    ]
    scope: dict[str, Any] = {
        "call": _with_callees(function),
        "carray": numba.carray,  # type: ignore[attr-defined]
    }
    exec("\n".join(lines), scope)
    return types, scope["entry"]


def _with_callees(function: FunctionType) -> Any:
    """The function for numba, and with it those of its package that it calls."""
    import numba

    scope = dict(function.__globals__)
    for name in function.__code__.co_names:
        callee = scope.get(name)
        if isinstance(callee, FunctionType) and callee in blas.FOR_NUMBA:
            scope[name] = blas.FOR_NUMBA[callee]()
        elif _beside(callee, function):
            scope[name] = _with_callees(callee)
    copy = FunctionType(function.__code__, scope, function.__name__)
    return numba.njit(error_model="numpy")(copy)
