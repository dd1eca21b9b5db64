//! `--completion bash`: made from the table of options.

use super::options::{Effect, OPTIONS, Operands, SUBCOMMANDS, ValueKind};

/// The script for bash. It needs nothing but bash itself.
pub(super) fn bash() -> String {
    let mut names: Vec<&str> = OPTIONS.iter().flat_map(|option| option.names).copied().collect();
    names.extend(SUBCOMMANDS.iter().map(|subcommand| subcommand.name));
    let mut cases = String::new();
    for option in OPTIONS {
        let answer = match &option.effect {
            Effect::Set(_) | Effect::Nothing(Operands::None | Operands::Attached | Operands::Numbers) => continue,
            Effect::Nothing(Operands::One(_)) => "COMPREPLY=()".to_owned(),
            Effect::Take(value) => match value.kind {
                ValueKind::File => r#"mapfile -t COMPREPLY < <(compgen -f -- "$current")"#.to_owned(),
                ValueKind::Directory => r#"mapfile -t COMPREPLY < <(compgen -d -- "$current")"#.to_owned(),
                ValueKind::Words(words) => {
                    format!(r#"mapfile -t COMPREPLY < <(compgen -W '{}' -- "$current")"#, words().join(" "))
                }
                ValueKind::Free => "COMPREPLY=()".to_owned(),
            },
        };
        cases +=
            &format!("        {})\n            {answer}\n            return\n            ;;\n", option.names.join("|"));
    }
    let mut subcommands = String::new();
    for subcommand in SUBCOMMANDS {
        subcommands += &format!("        {}) words='{}' ;;\n", subcommand.name, subcommand.options.join(" "));
    }
    format!(
        "\
# bash completion for bowline(8); made by 'bowline --completion bash'
_bowline() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} words
    case ${{COMP_WORDS[1]}} in
{subcommands}        *) words='{}' ;;
    esac
    if ((COMP_CWORD == 1)); then
        words='{0}'
    fi
    case $previous in
{cases}    esac
    if [[ $current == -* ]] || ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")
    else
        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")
    fi
}}
complete -o filenames -F _bowline bowline
",
        names.join(" ")
    )
}
