//! Tables for people, JSON for programs.

use serde_json::{Value, json};

use super::bars::{Verdict, mean};
use super::request::Request;
use super::results::{Measure, Results};
use super::rounds::{OWN, Series};
use super::statistics::{median, range};
use super::workload::{CACHED, FLAT, WORKLOADS, Workload};

/// One table in Markdown for what every contender used, and one for how often more than we.
pub(super) fn print(all: &[Series]) {
    println!("\n{}\n{}", table(all), ratios(all));
}

fn table(all: &[Series]) -> String {
    let mut rows = vec![
        [
            "workload",
            "builder",
            "mode",
            "wall s",
            "min–max",
            "CPU s",
            "anonymous MiB",
            "new layers MiB",
            "base MiB",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let results = Results(all);
    for series in all {
        let values =
            |measure| results.values(series.workload, series.mode, &series.contender, measure);
        let shown = |values: &[f64], digits: usize| {
            median(values).map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
        };
        let walls = values(Measure::Wall);
        let spread = range(&walls)
            .map_or_else(|| "failed".to_owned(), |(low, high)| format!("{low:.2}–{high:.2}"));
        let peak = values(Measure::PeakAnonymous).into_iter().max_by(f64::total_cmp);
        rows.push(vec![
            series.workload.to_owned(),
            series.contender.clone(),
            series.mode.name().to_owned(),
            shown(&walls, 2),
            spread,
            shown(&values(Measure::Cpu), 2),
            shown(peak.as_slice(), 1),
            shown(&values(Measure::NewLayers), 2),
            shown(&values(Measure::BaseLayers), 2),
        ]);
    }
    markdown(&rows)
}

/// For every opponent: time, processor time, memory and size as multiples of ours.
fn ratios(all: &[Series]) -> String {
    let results = Results(all);
    let mut text = String::new();
    let mut opponents: Vec<_> = all
        .iter()
        .filter(|series| series.contender != OWN)
        .map(|series| (series.mode, series.contender.as_str()))
        .collect();
    opponents.sort_unstable();
    opponents.dedup();
    for (mode, name) in opponents {
        let heads = ["wall", "CPU", "anonymous", "new layers"];
        let head = format!("{name} / {OWN} ({})", mode.name());
        let mut rows =
            vec![std::iter::once(head).chain(heads.map(str::to_owned)).collect::<Vec<_>>()];
        let measures = [Measure::Wall, Measure::Cpu, Measure::PeakAnonymous, Measure::NewLayers];
        let mut columns: [Vec<(&str, f64)>; 4] = std::array::from_fn(|_| Vec::new());
        for workload in WORKLOADS.iter().chain([&CACHED]).map(|workload| workload.name) {
            let values =
                measures.map(|measure| results.ratio(workload, (mode, name), (mode, OWN), measure));
            if values[0].is_none() {
                continue;
            }
            // What is in a cache says nothing about the others.
            let columns = columns.iter_mut().filter(|_| workload != CACHED.name);
            for (column, value) in columns.zip(values) {
                column.extend(value.map(|value| (workload, value)));
            }
            rows.push(row(workload, values));
        }
        rows.push(row("geometric mean", columns.each_ref().map(|column| mean(column))));
        text.push_str(&markdown(&rows));
        text.push('\n');
    }
    text
}

fn row(name: &str, values: [Option<f64>; 4]) -> Vec<String> {
    let shown =
        |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}×"));
    std::iter::once(name.to_owned()).chain(values.map(shown)).collect()
}

/// A table whose columns are as wide as their widest cell; the first row is the head.
fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).filter_map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if index == 0 {
            let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            text.push_str(&line(&rules));
        }
    }
    text
}

/// Every run, and every bar.
pub(super) fn json(
    all: &[Series],
    verdicts: &[Verdict],
    request: &Request,
) -> anyhow::Result<String> {
    let runs: Vec<Value> = all.iter().flat_map(runs).collect();
    let workloads: Vec<Value> = WORKLOADS
        .iter()
        .chain([&CACHED])
        .chain(&FLAT)
        .map(|Workload { name, about, .. }| json!({"name": name, "about": about}))
        .collect();
    let value = json!({
        "memory": request.memory,
        "cpus": request.cpus,
        "rounds": request.rounds,
        "workloads": workloads,
        "runs": runs,
        "bars": verdicts,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn runs(series: &Series) -> impl Iterator<Item = Value> {
    series.runs.iter().zip(1..).map(|(run, round): (_, u32)| {
        let mut value = json!({
            "workload": series.workload,
            "builder": series.contender,
            "mode": series.mode,
            "round": round,
            "load": run.load,
        });
        match &run.outcome {
            Ok(measured) => {
                value["wall_seconds"] = json!(Measure::Wall.of(measured));
                value["cpu_seconds"] = json!(Measure::Cpu.of(measured));
                value["peak_anonymous_bytes"] = json!(measured.used.peak_anonymous);
                value["new_layers_bytes"] = json!(measured.new_layers);
                value["base_layers_bytes"] = json!(measured.base_layers);
            }
            Err(reason) => value["error"] = json!(reason),
        }
        value
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::contender::{Measured, Used};
    use crate::bench::request::Mode;
    use crate::bench::rounds::Run;

    fn series(contender: &str, wall: u64, peak_anonymous: Option<u64>) -> Series {
        let used = Used { wall: Duration::from_secs(wall), cpu: None, peak_anonymous };
        let measured = Measured { used, new_layers: 3 << 20, base_layers: 1 << 20 };
        let runs = vec![Run { load: 0.5, outcome: Ok(measured) }];
        Series { workload: "small", contender: contender.to_owned(), mode: Mode::Full, runs }
    }

    #[test]
    fn tables_show_what_is_known() {
        let all = [series(OWN, 2, Some(5 << 20)), series("other", 5, None)];
        assert_eq!(
            table(&all),
            "\
| workload | builder | mode | wall s | min–max   | CPU s | anonymous MiB | new layers MiB | base MiB |
| -------- | ------- | ---- | ------ | --------- | ----- | ------------- | -------------- | -------- |
| small    | ebiko   | full | 2.00   | 2.00–2.00 | –     | 5.0           | 3.00           | 1.00     |
| small    | other   | full | 5.00   | 5.00–5.00 | –     | –             | 3.00           | 1.00     |
"
        );
        assert_eq!(
            ratios(&all),
            "\
| other / ebiko (full) | wall  | CPU | anonymous | new layers |
| -------------------- | ----- | --- | --------- | ---------- |
| small                | 2.50× | –   | –         | 1.00×      |
| geometric mean       | 2.50× | –   | –         | 1.00×      |

"
        );
    }

    #[test]
    fn a_run_that_failed_says_why() {
        let mut all = [series(OWN, 2, None)];
        all[0].runs.push(Run { load: 1.0, outcome: Err("killed".to_owned()) });
        assert!(table(&all).contains("| –      | failed  |"), "{}", table(&all));
        let text = json(&all, &[], &Request::parse(&[]).unwrap()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["runs"][0]["wall_seconds"], 2.0);
        assert_eq!(value["runs"][1]["error"], "killed");
        assert_eq!(value["runs"][1]["round"], 2);
    }
}
