//! Tables for people, JSON for programs.

use super::bars::Verdict;
use super::request::Request;
use super::rounds::Series;

pub(super) fn print(_series: &[Series]) {}

pub(super) fn json(_: &[Series], _: &[Verdict], _: &Request) -> anyhow::Result<String> {
    Ok(String::new())
}
