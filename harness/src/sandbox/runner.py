# Runs the program of one descriptor and, if it reaches its end, copies the token of another into a third.
import posix
import sys


def run(source, token, report):
    # What is needed afterwards is bound here: the program may replace any name.
    write, read, leave, process = posix.write, posix.read, posix._exit, posix.getpid
    text, kind, anything, syntax, value = str, type, BaseException, SyntaxError, ValueError
    memory, leaving = MemoryError, SystemExit
    me = process()
    pieces = []
    while piece := read(source, 1 << 20):
        pieces.append(piece)
    program = b"".join(pieces).decode()
    posix.close(source)
    sys.argv[:] = [""]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = [""]
    sys.path[:] = [folder for folder in sys.path if folder]
    write(report, b"r")
    reason = "stopped"
    try:
        try:
            code = compile(program, "<program>", "exec", dont_inherit=True)
        except (syntax, value) as error:
            reason = "syntax error: " + text(error)
        else:
            # An empty namespace, as in HumanEval's own evaluation: `__name__` is not `__main__`.
            exec(code, {})
            reason = None
    except leaving:
        reason = "exited before its end: SystemExit"
    except memory:
        reason = "out of memory"
    except anything as error:
        reason = kind(error).__name__
        try:
            message = text(error)
            if message:
                reason = reason + ": " + message
        except anything:
            pass
    if process() != me:
        leave(1)
    if reason is None:
        write(report, b"p" + read(token, 64))
        leave(0)
    write(report, b"f" + reason[:300].encode("utf-8", "replace"))
    leave(1)


run(*map(int, sys.argv[1:]))
