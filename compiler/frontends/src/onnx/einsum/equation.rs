//! The text of an einsum: which axis of which operand is summed with which.

use super::super::call::{Outcome, invalid};

/// What axes with one name are: a letter, or an axis of the ellipsis, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Label {
    Ellipsis(usize),
    Letter(u8),
}

/// Labels of the axes of each operand, and of the result.
#[derive(Debug)]
pub(super) struct Equation {
    pub(super) operands: Vec<Vec<Label>>,
    pub(super) result: Vec<Label>,
}

/// Letters before and after an ellipsis, or only letters.
struct Term {
    before: Vec<u8>,
    after: Option<Vec<u8>>,
}

impl Equation {
    /// Reads `text` for operands of these ranks.
    pub(super) fn parse(text: &str, ranks: &[usize]) -> Outcome<Self> {
        let text: String = text.chars().filter(|c| *c != ' ').collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return invalid(format!("an equation of {} terms for {} inputs", terms.len(), ranks.len()));
        }
        let mut operands = Vec::with_capacity(ranks.len());
        let mut ellipsis = 0;
        for (term, rank) in terms.iter().zip(ranks) {
            let labels = labels_of(term, *rank)?;
            let widest = labels.iter().filter(|label| matches!(label, Label::Ellipsis(_))).count();
            ellipsis = ellipsis.max(widest);
            operands.push(labels);
        }
        let result = match right {
            Some(term) => explicit_result(term, ellipsis, &operands)?,
            None => implicit_result(ellipsis, &operands),
        };
        Ok(Self { operands, result })
    }
}

impl Term {
    fn parse(text: &str) -> Outcome<Self> {
        let (before, after) = match text.split_once("...") {
            Some((before, after)) => (before, Some(after)),
            None => (text, None),
        };
        match before.bytes().chain(after.unwrap_or_default().bytes()).find(|c| !c.is_ascii_alphabetic()) {
            Some(_) => invalid(format!("`{text}` in the equation; expected letters and at most one `...`")),
            None => Ok(Self {
                before: before.bytes().collect(),
                after: after.map(|after| after.bytes().collect()),
            }),
        }
    }

    fn letters(&self) -> usize {
        self.before.len() + self.after.as_ref().map_or(0, Vec::len)
    }

    /// The labels, where the ellipsis stands for `ellipsis` axes.
    fn labels(&self, ellipsis: usize) -> Vec<Label> {
        let letters = |letters: &[u8]| letters.iter().copied().map(Label::Letter).collect::<Vec<_>>();
        let mut labels = letters(&self.before);
        if let Some(after) = &self.after {
            labels.extend((0..ellipsis).rev().map(Label::Ellipsis));
            labels.extend(letters(after));
        }
        labels
    }
}

fn labels_of(text: &str, rank: usize) -> Outcome<Vec<Label>> {
    let term = Term::parse(text)?;
    match rank.checked_sub(term.letters()) {
        Some(rest) if rest == 0 || term.after.is_some() => Ok(term.labels(rest)),
        _ => invalid(format!("term `{text}` of the equation for an input of rank {rank}")),
    }
}

fn explicit_result(text: &str, ellipsis: usize, operands: &[Vec<Label>]) -> Outcome<Vec<Label>> {
    let result = Term::parse(text)?.labels(ellipsis);
    for (i, label) in result.iter().enumerate() {
        if result[..i].contains(label) {
            return invalid(format!("the result `{text}` of the equation names an axis twice"));
        }
        if !operands.iter().any(|labels| labels.contains(label)) {
            return invalid(format!("the result `{text}` of the equation names an axis that no input has"));
        }
    }
    Ok(result)
}

/// The ellipsis, then the letters that occur once, in ASCII's order.
fn implicit_result(ellipsis: usize, operands: &[Vec<Label>]) -> Vec<Label> {
    let mut count = [0usize; 128];
    for label in operands.iter().flatten() {
        if let Label::Letter(letter) = label {
            count[usize::from(*letter)] += 1;
        }
    }
    let once = (0u8..128).filter(|letter| count[usize::from(*letter)] == 1).map(Label::Letter);
    (0..ellipsis).rev().map(Label::Ellipsis).chain(once).collect()
}
