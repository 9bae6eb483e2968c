//! What `deploy/` refers to is there: files of this repository, programs that it builds, options that systemd knows.

#![allow(clippy::unwrap_used, reason = "a test that finds something else than it expects fails")]

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// The instructions of the container's recipe, each with its arguments; lines that go on are joined.
fn recipe() -> Vec<(String, Vec<String>)> {
    let text = read("deploy/Containerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.collect())
    };
    lines.map(split).collect()
}

/// The programs of the workspace.
fn programs() -> Vec<String> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(root());
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.output().unwrap().stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let programs = targets.filter(|target| target["kind"][0] == "bin");
    programs.map(|target| target["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_recipe_copies_what_is_there_and_runs_it_without_rights() {
    let (recipe, programs) = (recipe(), programs());
    let ignored = read(".dockerignore");
    let (mut stages, mut installed) = (Vec::new(), Vec::new());
    let mut user = None;
    for (instruction, arguments) in &recipe {
        match instruction.as_str() {
            "FROM" => {
                let at = arguments.iter().position(|word| word == "AS");
                stages.push(at.map(|at| arguments[at + 1].clone()));
                user = None;
            }
            "COPY" => {
                let from = arguments.iter().find_map(|word| word.strip_prefix("--from="));
                let paths: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
                let (target, sources) = paths.split_last().unwrap();
                for source in sources {
                    let Some(stage) = from else {
                        assert!(root().join(source).exists(), "`{source}` is not in the repository");
                        assert!(!ignored.lines().any(|line| line == *source), "`{source}` is not sent");
                        continue;
                    };
                    assert!(stages.contains(&Some(stage.to_owned())), "there is no stage `{stage}`");
                    let program = source.strip_prefix("/src/target/release/").unwrap();
                    assert!(programs.iter().any(|known| known == program), "nothing builds `{program}`");
                    installed.push(format!("{target}{program}"));
                }
            }
            "USER" => user = Some(arguments[0].clone()),
            "ENTRYPOINT" => {
                let command: Vec<String> = serde_json::from_str(&arguments.join(" ")).unwrap();
                assert!(installed.contains(&command[0]), "{command:?} is not installed");
            }
            _ => {}
        }
    }
    assert!(stages.len() > 1, "what builds is not part of what runs");
    assert!(user.is_some_and(|user| user.parse::<u32>().is_ok_and(|id| id > 0)));
    for program in ["ired", "irectl", "ired-compiler-worker", "ired-runtime-worker"] {
        assert!(installed.contains(&format!("/usr/bin/{program}")), "`{program}` is not installed");
    }
}

/// What the recipe's first lines tell people to type.
#[test]
fn what_the_recipe_mounts_is_there() {
    let text = read("deploy/Containerfile").replace("\\\n#", "");
    let comments: String = text.lines().take_while(|line| line.starts_with('#')).collect();
    assert!(comments.contains("--read-only"), "{comments}");
    let words: Vec<&str> = comments.split(|c: char| c.is_whitespace() || c == ';').collect();
    let mut mounts = 0;
    for pair in words.windows(2) {
        let source = match pair {
            ["-f", file] => file,
            ["-v", mount] => mount.split(':').next().unwrap(),
            _ => continue,
        };
        mounts += 1;
        // A path of the host, or the name of a volume, is its owner's.
        let is_ours = source.starts_with("./") || source.starts_with("deploy/");
        assert!(!is_ours || root().join(source).exists(), "`{source}` is not in the repository");
    }
    assert_eq!(mounts, 3, "{comments}");
    for file in words.iter().filter(|word| word.starts_with("deploy/")) {
        let file = file.trim_end_matches(['.', ',']);
        assert!(root().join(file).exists(), "`{file}` is not in the repository");
    }
}

/// The example's folders are made by whoever installs it: the daemon does not start without its model repository.
#[test]
fn the_folders_of_the_example_settings_are_made() {
    let settings: toml::Table = toml::from_str(&read("deploy/ired.toml")).unwrap();
    let repository = settings["model_repository"].as_str().unwrap();
    let unit = read("deploy/ired.service");
    let made = unit.lines().find_map(|line| line.strip_prefix("StateDirectory=")).unwrap();
    assert!(made.split(' ').any(|folder| format!("/var/lib/{folder}") == repository), "{made}");
    let made = |(instruction, arguments): &(String, Vec<String>)| {
        instruction == "RUN" && arguments.iter().any(|word| word == repository)
    };
    assert!(recipe().iter().any(made), "the container has no `{repository}`");
}

#[test]
fn systemd_knows_every_option_of_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let verify = |text: &str| {
        let unit = dir.path().join("ired.service");
        // The program is installed where this does not run.
        std::fs::write(&unit, text.replace("/usr/bin/ired ", "/bin/true ")).unwrap();
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit).output()
    };
    let text = read("deploy/ired.service");
    assert!(text.contains("ExecStart=/usr/bin/ired "));
    let Ok(output) = verify(&text) else {
        eprintln!("NOT CHECKED: there is no `systemd-analyze` here");
        return;
    };
    // It only warns of what it does not know.
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    let wrong = verify(&text.replace("WatchdogSec", "WatchdgSec")).unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("WatchdgSec"));
}
