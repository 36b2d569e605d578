//! Fireproof on Node: installed from `bench/peers/fireproof` by npm, and driven by the script there.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::work::Result;
use crate::figure::{Goal, Row};

const PACKAGE: &str = include_str!("../../peers/fireproof/package.json");
const SCRIPT: &str = include_str!("../../peers/fireproof/bench.mjs");

/// An installed Fireproof.
pub(crate) struct Fireproof {
    folder: PathBuf,
}

/// What the script prints.
#[derive(Deserialize)]
struct Line {
    figure: String,
    value: f64,
    unit: String,
}

/// Installs it below `dir`, or finds it there.
pub(crate) fn install(dir: &Path) -> Result<Fireproof> {
    let folder = dir.join("fireproof-0.24.19");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("package.json"), PACKAGE)?;
    std::fs::write(folder.join("bench.mjs"), SCRIPT)?;
    if !folder.join("node_modules/@fireproof/core").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent"]);
        let output = npm.current_dir(&folder).output();
        let output = output.map_err(|error| format!("npm does not run: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("npm install failed: {said}").into());
        }
    }
    Ok(Fireproof { folder })
}

impl Fireproof {
    /// Its figures on so many documents, with so many put one by one.
    pub(crate) fn run(&self, data: &Path, puts: u64, documents: u64) -> Result<Vec<Row>> {
        if data.exists() {
            std::fs::remove_dir_all(data)?;
        }
        std::fs::create_dir_all(data)?;
        let data = std::fs::canonicalize(data)?;
        let output = Command::new("node")
            .arg("bench.mjs")
            .arg(&data)
            .args([puts.to_string(), documents.to_string()])
            .current_dir(&self.folder)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let rows: Vec<Row> = lines
            .map(|line: Line| {
                let (figure, unit) = (line.figure, line.unit);
                Row::new(
                    "documents",
                    figure,
                    "fireproof",
                    line.value,
                    &unit,
                    Goal::None,
                )
            })
            .collect();
        if rows.is_empty() || !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("the script ended with {}: {said}", output.status).into());
        }
        Ok(rows)
    }
}
