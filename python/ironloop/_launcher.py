"""Runs a program as `python` itself would, with ironloop's policy installed, and servers told of it (`_adapt`).

What a program can see of how it was started is what it would see without us: `sys.argv`, `sys.path[0]`, the
module `__main__` and its attributes, the traceback of an exception, the exit status, Ctrl-C.

    script.py          compiled and run in a fresh __main__          as pymain_run_file does
    folder, zip file   its __main__.py, by runpy                     as pymain_run_python does
    -m module          by runpy                                      as pymain_run_module does
    -c code, -         compiled and run in a fresh __main__          as pymain_run_command and _stdin do

An exception leaves through our frames; a hook takes them out of the traceback before anybody prints it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType, TracebackType

from ._static import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]

USAGE = """\
usage: python -m ironloop [-h] [-V] (script.py | folder | zip file | -m module | -c code | -) [args ...]
       python -m ironloop bench [--help] [options] [row ...]
       python -m ironloop compare [--help] [options] program [args ...]
       python -m ironloop top [--help] [options] PID

Runs a Python program, unmodified, on ironloop's event loop: asyncio.run(), asyncio.Runner,
asyncio.new_event_loop() and asyncio.get_event_loop() all use it.

  script.py, folder, zip file   run a file, or the __main__.py in a folder or zip file
  -m module                     run a library module
  -c code                       run code given as a string
  -                             run code from standard input
  -h, --help                    show this message and stop
  -V, --version                 show the version and stop
  bench                         measure the event loops that are installed here, side by side
  compare                       run a program under asyncio and under ironloop: times, and whether they differ
  top                           what the loops of a running process do, live
                                (./bench, ./compare and ./top are scripts or folders of that name)

Options of python itself (-X dev, -W error, -O ...) go before -m ironloop.
"""


COMMANDS = {"bench": "ironloop.bench", "compare": "ironloop._compare", "top": "ironloop._top"}


def main() -> None:
    """Run the program that the command line names; does not return if it ends with an exit status."""
    arguments = sys.argv[1:]
    if not arguments:
        sys.stderr.write(USAGE)
        raise SystemExit(2)
    first = arguments[0]
    if first in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return
    if first in ("-V", "--version"):
        from ironloop import __version__

        sys.stdout.write(f"ironloop {__version__}\n")
        return
    if first in COMMANDS:
        raise SystemExit(import_module(COMMANDS[first]).main(arguments[1:]))
    if first in ("-m", "-c") and len(arguments) < 2:
        sys.stderr.write(f"Argument expected for the {first} option\n{USAGE}")
        raise SystemExit(2)
    if first.startswith("-") and first not in ("-", "-m", "-c"):
        sys.stderr.write(f"unknown option {first}\n{USAGE}")
        raise SystemExit(2)
    from ironloop._adapt import install_everywhere

    install_everywhere()
    try:
        if first == "-m":
            _run_module(arguments[1], arguments[2:])
        elif first == "-c":
            _run_code(arguments[1].encode(errors="surrogateescape"), "<string>", ["-c", *arguments[2:]], "")
        elif first == "-":
            _run_code(sys.stdin.buffer.read(), "<stdin>", arguments, "")
        else:
            _run_file(first, arguments)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook = _without_our_frames(sys.excepthook)
        raise


def _run_module(name: str, arguments: list[str]) -> None:
    import runpy

    _new_main()
    # sys.path[0] is the current folder already, and runpy fills in argv[0].
    sys.argv = ["-m", *arguments]
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_file(path: str, argv: list[str]) -> None:
    import os
    from pkgutil import get_importer

    # As the interpreter makes it: joined, not normalized ("./x.py" stays visible).
    absolute = os.path.join(os.getcwd(), path)
    if get_importer(path) is not None:
        import runpy

        _new_main()
        sys.argv = argv
        # Python puts it there in safe-path mode, too: it is the program.
        if sys.flags.safe_path if sys.version_info >= (3, 11) else False:
            sys.path.insert(0, absolute)
        else:
            sys.path[0] = absolute
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        _cannot_open(absolute, error)
    _run_code(source, absolute, argv, os.path.dirname(os.path.realpath(path)))


def _cannot_open(path: str, error: OSError) -> NoReturn:
    sys.stderr.write(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}\n")
    raise SystemExit(2)


def _run_code(source: bytes, filename: str, argv: list[str], folder: str) -> None:
    """Compile and run a program in a fresh `__main__`; `folder` becomes `sys.path[0]`."""
    is_file = not filename.startswith("<")
    main_module = _new_main()
    if is_file:
        main_module.__file__ = filename
        main_module.__loader__ = SourceFileLoader("__main__", filename)
        if sys.version_info < (3, 15):
            main_module.__cached__ = None  # type: ignore[attr-defined, unused-ignore]
    sys.argv = argv
    if not (sys.version_info >= (3, 11) and sys.flags.safe_path):
        sys.path[0] = folder
    try:
        code: CodeType = compile(source, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        # ValueError: a null byte, before Python 3.11.4
        if is_file:
            _let_python_explain(argv)
        raise
    exec(code, main_module.__dict__)


def _let_python_explain(argv: list[str]) -> None:
    """Become `python script.py`, which fails to compile it, too, and says so in its own words.

    The compiler puts some errors (null bytes, encodings) differently for a file than for a string.
    """
    import os

    options = sys.orig_argv[: len(sys.orig_argv) - len(argv)]
    if options[-2:] == ["-m", __package__]:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [options[0], *options[1:-2], *argv])


def _new_main() -> ModuleType:
    """A module `__main__` as the interpreter makes it."""
    import builtins

    module = ModuleType("__main__")
    module.__loader__ = type(module.__loader__)() if module.__loader__ else _builtin_importer()
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    # Our own module must outlive its name: its functions are running.
    _kept.append(sys.modules["__main__"])
    sys.modules["__main__"] = module
    return module


_kept: list[ModuleType] = []


def _builtin_importer() -> Any:
    from importlib.machinery import BuiltinImporter

    return BuiltinImporter


def _without_our_frames(hook: Hook) -> Hook:
    """An excepthook that removes everything up to our last frame, then calls `hook`."""

    def trimmed(kind: type[BaseException], exception: BaseException, traceback: TracebackType | None) -> Any:
        rest = traceback
        while traceback is not None:
            if traceback.tb_frame.f_code.co_filename == __file__:
                rest = traceback.tb_next
            traceback = traceback.tb_next
        return hook(kind, exception.with_traceback(rest), rest)

    return trimmed
