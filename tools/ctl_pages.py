# SPDX-License-Identifier: GPL-3.0-or-later
"""ploverctl's manual page and its completion for bash, made from its command line (plover.ctl.arguments). The same command line
gives the same bytes. `python tools/ctl_pages.py FOLDER` writes both there; the build packs them into role runtime."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugins" / "module_utils"))
from plover import __version__  # noqa: E402
from plover.config.settings import CONFIG_DIR  # noqa: E402
from plover.ctl import arguments  # noqa: E402

MAN, COMPLETION = "ploverctl.1", "ploverctl.bash-completion"
OF_VM = "--vm"
FILES = ("FILE", "FOLDER")  # metavars whose value is a file, or a folder
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"
MADE = "Made by tools/ctl_pages.py from plover.ctl.arguments; do not edit."


def verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]


# ---- the manual page -----------------------------------------------------------------------------------------------


def roff(text: str) -> str:
    """Text that roff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in text.splitlines())


def _synopsis(name: str, parser: argparse.ArgumentParser) -> str:
    words = [f"\\fB{roff(name)}\\fR"]
    for action in options(parser):
        if isinstance(action, argparse._HelpAction):
            continue
        words.append(_usage(action) if not action.option_strings else f"[{_usage(action)}]")
    return " ".join(words)


def _usage(action: argparse.Action) -> str:
    names = f"\\fB{roff(action.option_strings[0])}\\fR" if action.option_strings else ""
    value = "" if action.nargs == 0 else f"\\fI{roff(_value(action))}\\fR"
    return " ".join(filter(None, (names, value)))


def _value(action: argparse.Action) -> str:
    if action.choices:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


def _described(parser: argparse.ArgumentParser) -> list[str]:
    lines = []
    for action in options(parser):
        names = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
        value = "" if action.nargs == 0 else f"\\fI{roff(_value(action))}\\fR"
        lines += [".TP", " ".join(filter(None, (names, value))), roff(action.help or "see above")]
    return lines


def _epilog(parser: argparse.ArgumentParser) -> list[str]:
    """Examples and exit status: each line of an epilog is one on paper."""
    return [".PP", ".nf", roff(parser.epilog or ""), ".fi"]


def man_page(parser: argparse.ArgumentParser) -> str:
    lines = [
        f'.\\" {LICENCE}',
        f'.\\" {MADE}',
        f'.TH PLOVERCTL 1 "" "Plover {roff(__version__)}" "Plover"',
        *(".SH NAME", f"ploverctl \\- {roff(arguments.DESCRIPTION[0].lower() + arguments.DESCRIPTION[1:].rstrip('.'))}"),
        *(".SH SYNOPSIS", _synopsis("ploverctl", parser) + " \\fICOMMAND\\fR ..."),
        *(".SH DESCRIPTION", roff(parser.description or ""), ".SH OPTIONS", *_described(parser)),
        *(".SH COMMANDS", "Most ask the daemon of one VM on this host, and need root."),
    ]
    for name, verb in verbs(parser).items():
        lines += [f".SS {roff(name)}", _synopsis(f"ploverctl {name}", verb), ".PP", roff(verb.description or "")]
        lines += [*_described(verb), *_epilog(verb)]
    lines += [
        *(".SH FILES", ".TP", f"\\fI{roff(str(CONFIG_DIR))}/NAME.json\\fR", "The settings of VM NAME on this host."),
        *(".SH EXAMPLES", ".nf", *(roff(example) for example in arguments.EXAMPLES), ".fi"),
        *(".SH SEE ALSO", "systemctl(1), journalctl(1)"),
    ]
    return "\n".join(lines) + "\n"


# ---- the completion ------------------------------------------------------------------------------------------------

SCRIPT = """\
# bash completion for ploverctl
# {licence}
# {made}

# The VMs of this host: those with settings.
_ploverctl_vms() {{
    local path
    for path in {folder}/*.json; do
        path=${{path##*/}} path=${{path%.json}}
        [[ -z $path || $path == *[!a-z0-9-]* ]] || printf '%s\\n' "$path"
    done
}}

_ploverctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} verb="" words="" n
    COMPREPLY=()
    [[ $before != "=" ]] || before=${{COMP_WORDS[COMP_CWORD - 2]}} # --vm=NAME comes as three words
    [[ $word != "=" ]] || word=""
    for ((n = 1; n < COMP_CWORD; n++)); do
        case ${{COMP_WORDS[n]}} in
            {vm}) [[ ${{COMP_WORDS[n + 1]}} != "=" ]] && n=$((n + 1)) || n=$((n + 2)) ;;
            -*) ;;
            *)
                verb=${{COMP_WORDS[n]}}
                break
                ;;
        esac
    done
    case $verb:$before in
        *:{vm}) words=$(_ploverctl_vms) ;;
{values}
        *)
            case $verb in
{verbs}
            esac
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}

complete -F _ploverctl ploverctl
"""


def completion(parser: argparse.ArgumentParser, folder: Path = CONFIG_DIR) -> str:
    """``folder`` of the settings."""
    found = verbs(parser)
    values, by_verb = [], [f'                "") words="{" ".join([*found, *_names(parser)])}" ;;']
    for name, verb in found.items():
        values += [line for action in options(verb) for line in _after(name, action)]
        by_verb += _first(name, verb)
    parts = {"values": "\n".join(values), "verbs": "\n".join(by_verb), "folder": folder, "vm": OF_VM}
    return SCRIPT.format(licence=LICENCE, made=MADE, **parts)


def _names(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in options(parser) for name in action.option_strings]


def _first(name: str, verb: argparse.ArgumentParser) -> list[str]:
    """What can follow the verb itself: its words and options, and files."""
    positional = [action for action in options(verb) if not action.option_strings]
    words = [*(str(choice) for action in positional for choice in action.choices or ()), *_names(verb)]
    lines = [f'                {name}) words="{" ".join(words)}" ;;']
    if any(action.metavar in FILES for action in positional):
        files = '                    mapfile -t COMPREPLY < <(compgen -f -W "$words" -- "$word")'
        lines = [f"                {name})", f'                    words="{" ".join(words)}"', files, " " * 20 + "return", " " * 20 + ";;"]
    return lines


def _after(verb: str, action: argparse.Action) -> list[str]:
    """What can follow an option: its choices, a file, or nothing that is known."""
    if not action.option_strings or action.nargs == 0 or OF_VM in action.option_strings:
        return []
    where = "|".join(f"{verb}:{name}" for name in action.option_strings)
    if action.metavar in FILES:
        return [f"        {where})", '            mapfile -t COMPREPLY < <(compgen -f -- "$word")', "            return", "            ;;"]
    return [f'        {where}) words="{" ".join(map(str, action.choices or ()))}" ;;']


# ---- both ----------------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    parser = arguments.parser()
    return {MAN: man_page(parser), COMPLETION: completion(parser)}


def write(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    found = pages()
    for name, text in found.items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text:  # another build may read it
            (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in found]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
