//! The README's tour, line by line: every command is run, and what it says is what is shown there but
//! for times, dates and addresses of sealed blocks.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

/// A command of the tour and the lines below it.
#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

/// The steps in the plain blocks of the section `title`.
fn steps(readme: &str, title: &str) -> Vec<Step> {
    let section = readme.split_once(title).expect("the section is there").1;
    let section = section.split("\n## ").next().unwrap_or(section);
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in section.lines() {
        if line.starts_with("```") {
            inside = line == "```" && !inside;
        } else if !inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step {
                command: command.to_owned(),
                shown: Vec::new(),
            });
        } else {
            let step = steps.last_mut().expect("a command comes first");
            step.shown.push(line.to_owned());
        }
    }
    steps
}

/// `line` with everything from `from` to `to` replaced, where both are there.
fn blank(line: &str, from: &str, to: &str) -> String {
    let parts = line.split_once(from);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(to)?.1)));
    parts.map_or(line.to_owned(), |(before, after)| {
        format!("{before}{from}…{to}{after}")
    })
}

/// What a word is when it differs from run to run.
fn chance(word: &str) -> Option<&'static str> {
    let date = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit() || b"-T:".contains(&b))
    };
    if word.ends_with("/s") {
        Some("<rate>")
    } else if word.starts_with("baf") || word.starts_with("bag") {
        Some("<address>")
    } else if word.len() == 20 && word.strip_suffix('Z').is_some_and(date) {
        Some("<date>")
    } else {
        None
    }
}

/// `line` without what differs from run to run.
fn without_chance(line: &str) -> String {
    // A table may be merged in the background before the command is asked to, or a manifest be swept.
    let line = blank(line, "compacted ", " into");
    let line = blank(&line, " manifest ", ",");
    let line = blank(&line, "log files, ", " manifests");
    let line = blank(&line, "commits in the log, in ", " a second");
    let mut words: Vec<String> = Vec::new();
    for word in line.split_inclusive([' ', '\t']) {
        let bare = word.trim_matches(|c| " \t();,".contains(c));
        let is_time = ["ns", "µs", "ms", "s"].contains(&bare);
        let number = words
            .last()
            .is_some_and(|last| last.starts_with(char::is_numeric));
        if is_time && number {
            words.pop();
            words.push(word.replace(bare, "<time>"));
        } else {
            words.push(chance(bare).map_or(word.to_owned(), |what| word.replace(bare, what)));
        }
    }
    words.concat()
}

fn run(command: &str, dir: &Path) -> Vec<String> {
    let bin = Path::new(env!("CARGO_BIN_EXE_siltstone"))
        .parent()
        .expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}; }} 2>&1")])
        .current_dir(dir)
        .env_clear()
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .expect("sh");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_command_of_the_tour_says_what_the_readme_shows() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    let steps = steps(&readme, "\n## Ten minutes\n");
    assert!(steps.len() > 40, "only {} commands are found", steps.len());
    let parent = tempfile::tempdir().expect("a folder");
    let dir = parent.path().join("tour");
    fs::create_dir(&dir).expect("a folder");
    for step in steps {
        if let Some(file) = step.command.strip_prefix("cat ") {
            fs::write(dir.join(file), step.shown.join("\n") + "\n").expect("written");
            continue;
        }
        let said = run(&step.command, &dir);
        let [mut said, mut shown] = [&said, &step.shown].map(|lines| {
            lines
                .iter()
                .map(|line| without_chance(line))
                .collect::<Vec<_>>()
        });
        if step.command.contains("conflicts") {
            // Which of two that conflict wins is decided by their addresses.
            said.sort();
            shown.sort();
        }
        assert_eq!(said, shown, "$ {}", step.command);
    }
}
