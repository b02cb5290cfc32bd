//! The server's help names routes; who sits at a terminal is helped by commands.

/// Routes as help names them, and the commands that do the same. A route that ends with a slash is
/// followed by a name, which stands for `NAME` in the command.
const COMMANDS: [(&str, &str); 18] = [
    ("GET /mlops/training/jobs", "'asgard jobs list'"),
    ("POST /mlops/training/upload", "'asgard run SCRIPT'"),
    (
        "GET /mlops/deployments?live=true&model_name=NAME",
        "'asgard deployments list --live --model NAME'",
    ),
    (
        "GET /mlops/deployments?live=true",
        "'asgard deployments list --live'",
    ),
    (
        "GET /mlops/deployments?model_name=NAME",
        "'asgard deployments list --model NAME'",
    ),
    ("GET /mlops/deployments", "'asgard deployments list'"),
    ("POST /mlops/deploy", "'asgard deploy'"),
    ("GET /mlops/models/", "'asgard models get NAME'"),
    ("GET /mlops/models", "'asgard models list'"),
    ("POST /mlops/webhooks", "'asgard webhooks create'"),
    ("DELETE /feast/features/", "'asgard features delete NAME'"),
    ("GET /feast/features", "'asgard features list'"),
    ("PUT /feast/features/NAME", "'asgard features apply FILE'"),
    ("POST /feast/features", "'asgard features apply FILE'"),
    (
        "POST /feast/materialize-incremental",
        "'asgard features materialize'",
    ),
    ("POST /feast/materialize", "'asgard features materialize'"),
    (
        "POST /feast/tables/SCHEMA/NAME",
        "'asgard features import FILE --table SCHEMA.NAME'",
    ),
    (
        "MlflowClient().set_registered_model_alias(name, alias, version)",
        "'asgard models alias set NAME ALIAS VERSION'",
    ),
];

/// A help in which every route that a command asks is that command.
pub(super) fn in_commands(help: &str) -> String {
    let mut help = help.to_owned();
    for (route, command) in COMMANDS {
        while let Some(at) = help.find(route) {
            let after = at + route.len();
            let name = match route.ends_with('/') {
                true => name_at(&help[after..]),
                false => "",
            };
            let said = match name {
                "" | "{name}" => command.to_owned(),
                name => command.replace("NAME", name),
            };
            let end = after + name.len();
            help.replace_range(at..end, &said);
        }
    }
    help
}

/// The name at the beginning of a text.
fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || ",;)".contains(c));
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::in_commands;

    #[test]
    fn routes_become_commands() {
        for (help, expected) in [
            (
                "GET /mlops/training/jobs lists the jobs, POST /mlops/training/upload starts one",
                "'asgard jobs list' lists the jobs, 'asgard run SCRIPT' starts one",
            ),
            (
                "remove those first: GET /mlops/deployments?live=true&model_name=NAME lists them",
                "remove those first: 'asgard deployments list --live --model NAME' lists them",
            ),
            (
                "GET /mlops/models/churn lists the aliases",
                "'asgard models get churn' lists the aliases",
            ),
            (
                "delete it (DELETE /feast/features/my_view), define it again",
                "delete it ('asgard features delete my_view'), define it again",
            ),
            (
                "GET /mlops/models/{name} lists the versions",
                "'asgard models get NAME' lists the versions",
            ),
            (
                "the routes are listed at /docs",
                "the routes are listed at /docs",
            ),
        ] {
            assert_eq!(in_commands(help), expected);
        }
    }
}
