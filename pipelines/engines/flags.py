"""A spec's engine arguments as command line flags."""

from collections.abc import Mapping

from registry.engine_args import Arg


def flags(args: Mapping[str, Arg]) -> list[str]:
    """``{"max-num-seqs": 8, "enforce-eager": True}`` → flags, in order of their names.

    Name and value are one word: a value that starts with dashes stays a value and cannot become
    a flag of its own. False leaves the flag out.
    """
    words: list[str] = []
    for name, value in sorted(args.items()):
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words.append(f"--{name}={value}")
    return words
