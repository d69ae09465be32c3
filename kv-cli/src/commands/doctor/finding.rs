//! What was found out about one thing.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// Good to know; nothing fails because of it.
    Note,
    /// It will hurt some stores, or all when they get larger.
    Warning,
    /// Something of a store can't work.
    Problem,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The name of what was looked at.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What it is.
    pub(super) finding: String,
    /// Why it matters, if it does.
    pub(super) why: Option<&'static str>,
    /// The command, or what else mends it.
    pub(super) mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, finding: impl Into<String>) -> Finding {
        Finding { check, level: Level::Ok, finding: finding.into(), why: None, mend: None }
    }

    /// One that is worse.
    pub(super) fn of(
        level: Level,
        check: &'static str,
        finding: impl Into<String>,
        why: &'static str,
        mend: impl Into<String>,
    ) -> Finding {
        let (finding, mend) = (finding.into(), Some(mend.into()));
        Finding { check, level, finding, why: Some(why), mend }
    }

    /// One that nothing has to be done about.
    pub(super) fn note(
        check: &'static str,
        finding: impl Into<String>,
        why: &'static str,
    ) -> Finding {
        let finding = finding.into();
        Finding { check, level: Level::Note, finding, why: Some(why), mend: None }
    }
}
