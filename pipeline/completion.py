"""Print what lets a shell complete commands, settings and their choices.

    eval "$(docbatch completion)"                # bash: in ~/.bashrc
    autoload -U bashcompinit && bashcompinit && eval "$(docbatch completion)"    # zsh: in ~/.zshrc

    python -m pipeline.completion                # prints the same, without an installed command
    python -m pipeline.completion > ~/.docbatch-completion      # to be sourced, which starts no program

The names stand in what is printed: completing starts no program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline import usage
from pipeline.compose import CONF, known_settings
from pipeline.usage import COMMANDS

_CONFIGS = {"report": "report", "diff": "diff", "export": "export", "evaluate": "evaluate"}
_OTHERS = {"status": ["output", "json"], "fetch": ["model", "model.path"], "completion": []}
_VALUES = {
    "plan": ["true", "false"],
    "strict": ["true", "false"],
    "retry_errors": ["true", "false"],
    "json": ["true", "false"],
    "format": ["csv", "xlsx", "jsonl", "markdown"],
    "report.pages": ["auto", "all", "none"],
}
_SCRIPT = """\
_docbatch() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} name= names=
    COMPREPLY=()
    # Shells take = for a word of its own.
    if [[ $word == '=' ]]; then name=$before word=
    elif [[ $before == '=' ]]; then name=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    case $name in
        '') ;;
{values}
        *) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    if [[ -n $name ]]; then COMPREPLY=($(compgen -W "$names" -- "$word")); return; fi
    if [[ $COMP_CWORD == 1 ]]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        [[ -n $word ]] && COMPREPLY+=($(compgen -f -- "$word"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{settings}
    esac
    compopt -o nospace 2>/dev/null
    COMPREPLY=($(compgen -W "$names" -- "$word"))
}}
complete -o default -F _docbatch docbatch
"""


def main() -> None:
    """Print the script."""
    usage.print_if_asked(__doc__)
    print(script(), end="")


def script() -> str:
    """Return the script for the shell."""
    return _SCRIPT.format(
        commands=" ".join(COMMANDS),
        values=_cases(_choices() | _VALUES),
        settings=_cases({command: [f"{name}=" for name in _settings(command)] for command in COMMANDS}),
    )


def _choices() -> dict[str, list[str]]:
    """Return the files of each group of conf/, by the group's name."""
    folders = (folder for folder in sorted(CONF.iterdir()) if folder.is_dir())
    return {folder.name: sorted(file.stem for file in folder.glob("*.yaml")) for folder in folders}


def _settings(command: str) -> Sequence[str]:
    if command in _OTHERS:
        return _OTHERS[command]
    return [
        *known_settings(_CONFIGS.get(command, "config")),
        *(_choices() if command not in _CONFIGS else ()),
    ]


def _cases(words: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(
        f"        {name}) names='{' '.join(dict.fromkeys(each))}' ;;" for name, each in words.items()
    )


if __name__ == "__main__":
    main()
