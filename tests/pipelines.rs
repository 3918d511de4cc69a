//! What pipelines get: outputs and reports of a plan, what editors and shells ask for, and the scripts of `contrib`
//! that put a plan into one comment and keep it up to date.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

const TOPOLOGY: &str = "version: 1\ncluster: orders\npostgresql: { version: 15 }\n\
    replication: { user: repuser, auth: trust }\n\
    nodes:\n  a: { role: primary, port: 5433, data_dir: ./a }\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("orders.yaml"), TOPOLOGY).expect("written");
    // As root, pgpair looks as the servers' user whether that could make a data directory here.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    folder
}

fn pgpair(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for variable in ["PGPAIR_FILE", "GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
        command.env_remove(variable);
    }
    command
}

/// Runs what is to succeed, and returns its standard output.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("a text")
}

#[test]
fn in_github_actions_a_plan_is_told_as_outputs_and_as_the_summary_of_the_step() {
    let folder = folder();
    fs::write(folder.path().join("output"), "before=1\n").expect("written");
    let plan = |is_there: &str| {
        let mut command = pgpair(folder.path(), &["plan", "orders.yaml", "--format", "markdown"]);
        command.env("GITHUB_ACTIONS", is_there).env("GITHUB_OUTPUT", "output").env("GITHUB_STEP_SUMMARY", "summary");
        succeeds(&mut command)
    };
    plan("false");
    assert_eq!(read(folder.path(), "output"), "before=1\n");
    let comment = plan("true");
    assert_eq!(
        read(folder.path(), "output"),
        "before=1\ncluster=orders\nstatus=changes\nchanges=true\nsteps=3\nallow=\n"
    );
    assert!(comment.starts_with("<!-- pgpair:orders -->\n"), "{comment}");
    assert_eq!(read(folder.path(), "summary"), format!("{comment}\n"));
}

#[test]
fn gitlab_gets_the_counts_of_a_plan() {
    let folder = folder();
    succeeds(&mut pgpair(folder.path(), &["plan", "orders.yaml", "--report", "gitlab=counts.json"]));
    let counts: Value = serde_json::from_str(&read(folder.path(), "counts.json")).expect("JSON");
    assert_eq!(counts, serde_json::json!({ "create": 2, "update": 1, "delete": 0 }));
}

#[test]
fn shells_and_editors_are_told_of_every_command() {
    let folder = folder();
    let schema: Value = serde_json::from_str(&succeeds(&mut pgpair(folder.path(), &["schema"]))).expect("JSON");
    assert_eq!(schema["properties"]["nodes"]["minProperties"], 1);
    for shell in ["bash", "zsh", "fish"] {
        let script = succeeds(&mut pgpair(folder.path(), &["completions", shell]));
        assert!(script.contains("switchover") && script.contains("max-lag"), "{shell}");
    }
    succeeds(&mut pgpair(folder.path(), &["man", "--out", "man1"]));
    for page in ["pgpair.1", "pgpair-plan.1", "pgpair-switchover.1", "pgpair-man.1"] {
        assert!(read(&folder.path().join("man1"), page).contains(".SH NAME"), "{page}");
    }
}

/// Programs in the place of real ones.
fn stub(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    fs::write(&file, script).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// A script of `contrib`, with the stubs of the folder before all other programs.
fn contrib(folder: &Path, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(script));
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a PATH"));
    command.args(arguments).current_dir(folder).env("PATH", path).stdin(Stdio::null());
    command
}

const GH: &str = r#"#!/bin/sh
set -eu
shift
method=GET
while [ $# -gt 0 ]; do
    case $1 in
        --paginate | --silent) ;;
        --jq) shift && jq=$1 ;;
        --method) shift && method=$1 ;;
        --field) shift && body=${1#body=@} ;;
        *) path=$1 ;;
    esac
    shift
done
case $method in
    GET) exec jq -r "$jq" comments.json ;;
    POST) jq --rawfile body "$body" '. + [{id: 9, user: {login: "github-actions[bot]"}, body: $body}]' comments.json >new ;;
    PATCH) jq --rawfile body "$body" --argjson id "${path##*/}" 'map(if .id == $id then .body = $body else . end)' comments.json >new ;;
esac
mv new comments.json
"#;

const CURL: &str = r#"#!/bin/sh
set -eu
[ "$(cat)" = 'header = "PRIVATE-TOKEN: t0ken"' ]
case "$*" in *t0ken*) exit 1 ;; esac
method=GET
while [ $# -gt 0 ]; do
    case $1 in
        --fail | --silent | --show-error) ;;
        --config | --output) shift ;;
        --request) shift && method=$1 ;;
        --data-urlencode) shift && body=${1#body@} ;;
        *) path=$1 ;;
    esac
    shift
done
case $method,$path in
    GET,*/user) echo '{"id": 7}' && exit ;;
    GET,*page=1) exec cat comments.json ;;
    GET,*) echo '[]' && exit ;;
    POST,*) jq --rawfile body "$body" '. + [{id: 9, author: {id: 7}, body: $body}]' comments.json >new ;;
    PUT,*) jq --rawfile body "$body" --argjson id "${path##*/}" 'map(if .id == $id then .body = $body else . end)' comments.json >new ;;
esac
mv new comments.json
"#;

/// Comments twice, where somebody else has written our marker, and looks at what is there then.
fn one_comment_is_kept_up_to_date(folder: &Path, theirs: &str, comment: impl Fn() -> Command) {
    let marker = "<!-- pgpair:orders -->";
    let stranger = format!(r#"[{{"id": 3, {theirs}, "body": "{marker} of a stranger"}}]"#);
    fs::write(folder.join("comments.json"), stranger).expect("written");
    let bodies = || -> Vec<String> {
        let comments: Value = serde_json::from_str(&read(folder, "comments.json")).expect("JSON");
        let comments = comments.as_array().expect("a list");
        comments.iter().map(|comment| comment["body"].as_str().expect("a text").to_owned()).collect()
    };
    fs::write(folder.join("failed.md"), "### pgpair failed\n").expect("written");
    for text in ["first", "second"] {
        fs::write(folder.join("orders.md"), format!("{marker}\n{text} `@x`\n")).expect("written");
        succeeds(&mut comment());
        assert_eq!(bodies(), [format!("{marker} of a stranger"), format!("{marker}\n{text} `@x`\n")]);
    }
}

#[test]
fn on_github_one_comment_is_kept_up_to_date_and_no_stranger_s() {
    let folder = folder();
    stub(folder.path(), "gh", GH);
    one_comment_is_kept_up_to_date(folder.path(), r#""user": {"login": "mallory"}"#, || {
        let mut command = contrib(folder.path(), "github/comment", &["12", "failed.md", "orders.md"]);
        command.env("GITHUB_REPOSITORY", "o/r");
        command
    });
}

#[test]
fn on_gitlab_one_note_is_kept_up_to_date_and_the_token_is_no_argument() {
    let folder = folder();
    stub(folder.path(), "curl", CURL);
    one_comment_is_kept_up_to_date(folder.path(), r#""author": {"id": 3}"#, || {
        let mut command = contrib(folder.path(), "gitlab/comment", &["failed.md", "orders.md"]);
        command.env("CI_API_V4_URL", "https://gitlab.example/api/v4").env("CI_PROJECT_ID", "5");
        command.env("CI_MERGE_REQUEST_IID", "12").env("PGPAIR_GITLAB_TOKEN", "t0ken");
        command
    });
}

#[test]
fn plans_are_saved_by_file_and_applied_one_after_the_other_with_what_is_allowed() {
    let folder = folder();
    let words = r#"#!/bin/sh
echo "$*" >>log
while [ $# -gt 0 ]; do
    [ "$1" != --out ] || touch "$2"
    shift
done
"#;
    stub(folder.path(), "pgpair", words);
    succeeds(&mut contrib(folder.path(), "pipeline/review", &["main", "b/orders.yaml", "b/stock.yaml"]));
    succeeds(&mut contrib(folder.path(), "pipeline/plan", &["b/orders.yaml", "b/stock.yaml"]));
    succeeds(contrib(folder.path(), "pipeline/apply", &[]).env("PGPAIR_ALLOW", "restart,switchover=b"));
    succeeds(contrib(folder.path(), "pipeline/apply", &[]).env_remove("PGPAIR_ALLOW"));
    insta::assert_snapshot!(read(folder.path(), "log"), @r"
    validate b/orders.yaml b/stock.yaml
    diff --base main b/orders.yaml --format markdown
    diff --base main b/stock.yaml --format markdown
    plan b/orders.yaml --out plans/orders.json --report gitlab=plans/orders.gitlab.json --format markdown
    plan b/stock.yaml --out plans/stock.json --report gitlab=plans/stock.gitlab.json --format markdown
    apply --plan plans/orders.json -f b/orders.yaml --auto-approve --lock-timeout 5m --allow restart,switchover=b
    apply --plan plans/stock.json -f b/stock.yaml --auto-approve --lock-timeout 5m --allow restart,switchover=b
    apply --plan plans/orders.json -f b/orders.yaml --auto-approve --lock-timeout 5m
    apply --plan plans/stock.json -f b/stock.yaml --auto-approve --lock-timeout 5m
    ");
    stub(folder.path(), "pgpair", "#!/bin/sh\necho \"$*\" >>failed\nexit 3\n");
    let ended = contrib(folder.path(), "pipeline/apply", &[]).output().expect("it runs");
    assert_eq!((ended.status.code(), read(folder.path(), "failed").lines().count()), (Some(3), 1));
}
