//! `completion`: what shells complete.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use crate::arguments::Arguments;

const NAME: &str = "kubectl-zastava";
/// clap_complete's script for bash does not find the subcommands of a program whose name has a hyphen.
const NAME_FOR_BASH: &str = "kubectl_zastava";

/// The script of a shell.
pub fn script(shell: Shell) -> String {
    let name = if shell == Shell::Bash { NAME_FOR_BASH } else { NAME };
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        return script.replace(&format!("-o default {NAME_FOR_BASH}"), &format!("-o default {NAME}"));
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_finds_every_subcommand() {
        let script = script(Shell::Bash);
        assert!(script.contains("complete -F _kubectl_zastava") && script.contains(&format!("-o default {NAME}\n")));
        let named: Vec<_> =
            script.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"')).collect();
        assert!(named.len() > 6, "{named:?}");
        for name in named.into_iter().filter(|name| !name.is_empty()) {
            assert!(script.lines().any(|line| line.trim() == format!("{name})")), "{name}");
        }
    }
}
