//! How the program ends: its exit codes, and which library error leads to which.
//!
//! A `Failure` is one line on standard error and a code. A closed pipe is no failure: whoever read
//! us had enough, so it ends the program with code 0 and without a word.

use std::fmt;
use std::io;
use std::process::ExitCode;

use store_client::{
    AttachError, Corruption, CreateError, LoadError, NamespaceError, ParseSpecError, ReadError,
    WriteError,
};

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// The key is absent, or the condition of a write is false.
    Absent = 1,
    Usage = 2,
    NoStore = 3,
    Permission = 4,
    Full = 5,
    /// Corrupt, truncated, unfinished, another format version, or no store at all.
    Corrupt = 6,
    /// A living process holds a guard, or a place never came to rest.
    TimedOut = 7,
    /// A key, a value, a number or a line to be loaded was refused.
    Refused = 8,
    System = 9,
    /// `doctor` found something that keeps stores from working.
    Problem = 10,
    /// Ended by Ctrl-C or SIGTERM, as shells count it.
    Interrupted = 130,
}

impl Exit {
    /// The code as the shell sees it.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The exit that a worker process reported as a number.
    pub(crate) fn from_code(code: u8) -> Exit {
        const ALL: [Exit; 12] = [
            Exit::Done,
            Exit::Absent,
            Exit::Usage,
            Exit::NoStore,
            Exit::Permission,
            Exit::Full,
            Exit::Corrupt,
            Exit::TimedOut,
            Exit::Refused,
            Exit::System,
            Exit::Problem,
            Exit::Interrupted,
        ];
        ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Exit::System)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command ends early: a code, and the line that explains it (none for a closed pipe).
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: Option<String>,
}

impl Failure {
    /// A failure that says why in one line.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: Some(message.into()) }
    }

    /// The command line asks for something that can't be had.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// The operating system refused something that is not the store's doing.
    pub(crate) fn system(what: &str, source: &io::Error) -> Failure {
        let exit = match source.kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            _ => Exit::System,
        };
        Failure::new(exit, format!("{what}: {source}"))
    }

    /// Standard output could not be written. A closed pipe is no error.
    pub(crate) fn output(source: &io::Error) -> Failure {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Done, message: None };
        }
        Failure::new(Exit::System, format!("writing to standard output: {source}"))
    }

    /// The same failure with the place it concerns in front.
    pub(crate) fn at(mut self, place: &str) -> Failure {
        self.message = self.message.map(|message| format!("{place}: {message}"));
        self
    }

    /// The same failure with the commands that its text advises behind it.
    pub(crate) fn hint(mut self, commands: &str) -> Failure {
        if !commands.is_empty() {
            self.message = self.message.map(|message| format!("{message} ({commands})"));
        }
        self
    }

    /// The message in one line, whatever an error's text contained.
    pub(crate) fn line(&self) -> Option<String> {
        let message = self.message.as_ref()?;
        let parts: Vec<&str> =
            message.lines().map(str::trim).filter(|part| !part.is_empty()).collect();
        Some(parts.join("; "))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line().unwrap_or_default())
    }
}

impl From<LoadError<Failure>> for Failure {
    fn from(error: LoadError<Failure>) -> Failure {
        match error {
            LoadError::Failed(failure) => failure,
            LoadError::Store(error) | LoadError::NotStored { source: error, .. } => error.into(),
            busy => Failure::new(Exit::TimedOut, busy.to_string()),
        }
    }
}

impl From<ParseSpecError> for Failure {
    fn from(error: ParseSpecError) -> Failure {
        Failure::usage(error.to_string())
    }
}

impl From<Corruption> for Failure {
    fn from(error: Corruption) -> Failure {
        Failure::new(Exit::Corrupt, error.to_string()).hint(CHECK)
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Failure {
        Failure::new(exit_of_attach(&error), error.to_string()).hint(hint_of_attach(&error))
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Failure {
        let hint = match &error {
            CreateError::Exists { .. } => REMOVE,
            CreateError::Attach(attach) => hint_of_attach(attach),
            _ => "",
        };
        let exit = match &error {
            // As with `add`: the condition that there is none yet is false.
            CreateError::Exists { .. } | CreateError::Occupied { .. } => Exit::Absent,
            CreateError::PermissionDenied { .. } => Exit::Permission,
            CreateError::InvalidOption { .. } | CreateError::Unsupported { .. } => Exit::Usage,
            CreateError::NoRoom { .. }
            | CreateError::NoHugePages { .. }
            | CreateError::FileSizeLimit { .. }
            | CreateError::Limit { .. } => Exit::Full,
            CreateError::Attach(attach) => exit_of_attach(attach),
            CreateError::System { .. } => Exit::System,
            _ => Exit::System,
        };
        Failure::new(exit, error.to_string()).hint(hint)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        let hint = if matches!(error, ReadError::Corruption(_)) { CHECK } else { "" };
        Failure::new(exit_of_read(&error), error.to_string()).hint(hint)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Failure {
        let exit = match &error {
            WriteError::KeyTooLong { .. }
            | WriteError::ValueTooLarge { .. }
            | WriteError::NotANumber
            | WriteError::Overflow { .. }
            | WriteError::InvalidTtl { .. } => Exit::Refused,
            WriteError::Full(_) | WriteError::QuotaFull { .. } | WriteError::IndexFull { .. } => {
                Exit::Full
            }
            WriteError::Stuck { .. } => Exit::TimedOut,
            WriteError::GuardsDenied { .. } => Exit::Permission,
            WriteError::Retired { .. } | WriteError::NamespaceGone { .. } => Exit::NoStore,
            WriteError::Read(read) => exit_of_read(read),
            WriteError::Corruption(_) => Exit::Corrupt,
            WriteError::Reattach(attach) => exit_of_attach(attach),
            WriteError::Trim { source } => match source.kind() {
                io::ErrorKind::Unsupported => Exit::Usage,
                _ => Exit::System,
            },
            WriteError::Grow { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::OutOfMemory => Exit::Full,
                _ => Exit::System,
            },
            _ => Exit::System,
        };
        let hint = match &error {
            WriteError::Corruption(_) | WriteError::Read(ReadError::Corruption(_)) => CHECK,
            WriteError::IndexFull { .. } => "kv-cli stats",
            WriteError::QuotaFull { .. } => "kv-cli namespace set NAME --quota SIZE",
            WriteError::InvalidTtl { millis: 0, .. } => {
                "kv-cli del deletes a key at once, kv-cli persist lets it live for ever"
            }
            WriteError::Reattach(attach) => hint_of_attach(attach),
            _ => "",
        };
        Failure::new(exit, error.to_string()).hint(hint)
    }
}

impl From<NamespaceError> for Failure {
    fn from(error: NamespaceError) -> Failure {
        let exit = match error {
            NamespaceError::Write(error) => return error.into(),
            NamespaceError::Corruption(error) => return error.into(),
            NamespaceError::NotFound { .. } => Exit::NoStore,
            // As with `create`: the condition that there is none yet is false.
            NamespaceError::Exists { .. } => Exit::Absent,
            NamespaceError::TooMany { .. } => Exit::Full,
            _ => Exit::Usage,
        };
        Failure::new(exit, error.to_string())
    }
}

const CHECK: &str = "kv-cli check; kv-cli salvage saves what can be read into a new store";
const REMOVE: &str = "kv-cli rm";

/// The commands of this program for what the library's text advises.
fn hint_of_attach(error: &AttachError) -> &'static str {
    match error {
        AttachError::NotFound { .. } => "kv-cli create makes one, kv-cli ls lists them",
        AttachError::Empty { .. } => {
            "kv-cli rm removes it from shared memory, and leaves a file alone"
        }
        AttachError::Unfinished { .. } | AttachError::Truncated { .. } => REMOVE,
        // What can't be attached can't be checked.
        AttachError::Corruption(_) => "kv-cli salvage saves what can be read into a new store",
        AttachError::NoGeometry { .. } => "kv-cli salvage --source-extent-size",
        _ => "",
    }
}

fn exit_of_attach(error: &AttachError) -> Exit {
    match error {
        // A retired store was destroyed: there is none of that name any more.
        AttachError::NotFound { .. } | AttachError::Retired { .. } | AttachError::Stale { .. } => {
            Exit::NoStore
        }
        AttachError::PermissionDenied { .. }
        | AttachError::ForeignPidNamespace { .. }
        | AttachError::ForeignIpcNamespace { .. }
        | AttachError::ForeignGuards { .. }
        | AttachError::Sealed { .. }
        | AttachError::InUse { .. }
        | AttachError::NotRemovable { .. }
        | AttachError::NotOwner { .. } => Exit::Permission,
        AttachError::NotAStore { .. }
        | AttachError::NotAFile { .. }
        | AttachError::SymbolicLink { .. }
        | AttachError::Empty { .. }
        | AttachError::Unfinished { .. }
        | AttachError::Damaged { .. }
        | AttachError::OtherVersion { .. }
        | AttachError::UnknownFeatures { .. }
        | AttachError::Truncated { .. }
        | AttachError::NoGeometry { .. }
        | AttachError::Corruption(_)
        | AttachError::UncleanReboot { .. } => Exit::Corrupt,
        AttachError::TooManyClients { .. } | AttachError::GuardLimit { .. } => Exit::Full,
        AttachError::Unsupported { .. } => Exit::Usage,
        AttachError::System { .. } => Exit::System,
        _ => Exit::System,
    }
}

fn exit_of_read(error: &ReadError) -> Exit {
    match error {
        ReadError::Contended { .. } => Exit::TimedOut,
        ReadError::Corruption(_) => Exit::Corrupt,
        ReadError::BufferTooSmall { .. } => Exit::System,
        _ => Exit::System,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store_client::Fullness;

    use super::*;

    const BROKEN: Corruption = Corruption { what: "slot", offset: 64 };

    fn name() -> String {
        "/cistern-x".to_owned()
    }

    fn exit(failure: impl Into<Failure>) -> u8 {
        failure.into().exit.code()
    }

    #[test]
    fn attach_errors_have_the_codes_of_the_manual() {
        assert_eq!(exit(AttachError::NotFound { name: name() }), 3);
        assert_eq!(exit(AttachError::Retired { name: name() }), 3);
        assert_eq!(exit(AttachError::PermissionDenied { name: name(), access: "writing" }), 4);
        assert_eq!(exit(AttachError::ForeignPidNamespace { name: name(), pid: 1 }), 4);
        assert_eq!(exit(AttachError::Stale { name: name(), why: "" }), 3);
        assert_eq!(exit(AttachError::Sealed { name: name() }), 4);
        assert_eq!(exit(AttachError::NotOwner { name: name() }), 4);
        assert_eq!(exit(AttachError::InUse { name: name() }), 4);
        assert_eq!(exit(AttachError::ForeignIpcNamespace { name: name() }), 4);
        assert_eq!(exit(AttachError::ForeignGuards { name: name() }), 4);
        assert_eq!(exit(AttachError::GuardLimit { name: name(), limit: "SEMMSL", value: 1 }), 5);
        assert_eq!(exit(AttachError::TooManyClients { name: name(), limit: 1 }), 5);
        assert_eq!(exit(AttachError::NotAStore { name: name(), found: 0 }), 6);
        assert_eq!(exit(AttachError::SymbolicLink { name: name(), target: name() }), 6);
        assert_eq!(exit(AttachError::Empty { name: name() }), 6);
        assert_eq!(exit(AttachError::Unfinished { name: name(), creator_alive: false }), 6);
        assert_eq!(exit(AttachError::Damaged { name: name() }), 6);
        assert_eq!(exit(AttachError::OtherVersion { name: name(), found: 2, supported: 1 }), 6);
        assert_eq!(exit(AttachError::Truncated { name: name(), found: 2, expected: 1 }), 6);
        assert_eq!(exit(AttachError::UnknownFeatures { name: name(), unknown: 1 }), 6);
        assert_eq!(exit(AttachError::UncleanReboot { name: name() }), 6);
        assert_eq!(exit(AttachError::Corruption(BROKEN)), 6);
        assert_eq!(exit(AttachError::NoGeometry { name: name() }), 6);
        assert_eq!(exit(AttachError::Unsupported { what: name(), remedy: "" }), 2);
        let source = io::Error::from(io::ErrorKind::Other);
        assert_eq!(exit(AttachError::System { call: "mmap", name: name(), source }), 9);
    }

    #[test]
    fn create_errors_have_the_codes_of_the_manual() {
        let io_error = || io::Error::from(io::ErrorKind::Other);
        assert_eq!(exit(CreateError::Exists { name: name() }), 1);
        assert_eq!(exit(CreateError::Occupied { name: name(), kind: "a directory" }), 1);
        assert_eq!(exit(CreateError::PermissionDenied { name: name(), source: io_error() }), 4);
        assert_eq!(exit(CreateError::NoRoom { name: name(), needed: 2, free: 1 }), 5);
        assert_eq!(exit(CreateError::FileSizeLimit { name: name(), needed: 2, limit: 1 }), 5);
        assert_eq!(exit(CreateError::Limit { name: name(), limit: "shmmax", value: 1 }), 5);
        assert_eq!(exit(CreateError::Unsupported { what: name(), remedy: "" }), 2);
        let rule = String::new();
        assert_eq!(exit(CreateError::InvalidOption { option: "size", given: name(), rule }), 2);
        assert_eq!(exit(CreateError::Attach(AttachError::Corruption(BROKEN))), 6);
        assert_eq!(exit(CreateError::System { call: "x", name: name(), source: io_error() }), 9);
    }

    #[test]
    fn write_errors_have_the_codes_of_the_manual() {
        assert_eq!(exit(WriteError::KeyTooLong { len: 2, limit: 1 }), 8);
        assert_eq!(exit(WriteError::ValueTooLarge { len: 2, limit: 1 }), 8);
        assert_eq!(exit(WriteError::NotANumber), 8);
        assert_eq!(exit(WriteError::Retired { name: String::new() }), 3);
        assert_eq!(exit(WriteError::Overflow { current: 1, delta: 1 }), 8);
        assert_eq!(exit(WriteError::InvalidTtl { millis: 0, limit: 1 }), 8);
        let full = Fullness {
            needed: 1,
            live: 1,
            limit: 1,
            dead: 1,
            free: 1,
            reserve: 1,
            largest: 1,
            capacity: 1,
        };
        assert_eq!(exit(WriteError::Full(Box::new(full))), 5);
        assert_eq!(exit(WriteError::IndexFull { items: 1, buckets: 1 }), 5);
        let source = Box::new(AttachError::ForeignGuards { name: name() });
        assert_eq!(exit(WriteError::GuardsRemoved { name: name(), source }), 9);
        assert_eq!(exit(WriteError::GuardsDenied { name: name() }), 4);
        assert_eq!(exit(WriteError::Stuck { pid: 1, waited: Duration::ZERO }), 7);
        assert_eq!(exit(WriteError::Read(ReadError::Contended { attempts: 1 })), 7);
        assert_eq!(exit(WriteError::Read(ReadError::Corruption(BROKEN))), 6);
        assert_eq!(exit(WriteError::Corruption(BROKEN)), 6);
        assert_eq!(exit(BROKEN), 6);
        let no_room = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(exit(WriteError::Grow { name: name(), source: no_room }), 5);
        let sealed = io::ErrorKind::Unsupported.into();
        assert_eq!(exit(WriteError::Trim { source: sealed }), 2);
        let attach = AttachError::TooManyClients { name: name(), limit: 1 };
        assert_eq!(exit(WriteError::Reattach(Box::new(attach))), 5);
    }

    #[test]
    fn load_errors_have_the_codes_of_the_manual() {
        let store = || WriteError::KeyTooLong { len: 2, limit: 1 };
        assert_eq!(exit(LoadError::Failed(Failure::usage("x"))), 2);
        assert_eq!(exit(LoadError::<Failure>::Busy { pid: 1, waited: Duration::ZERO }), 7);
        assert_eq!(exit(LoadError::<Failure>::Store(store())), 8);
        let value = Vec::new();
        assert_eq!(exit(LoadError::<Failure>::NotStored { value, source: store() }), 8);
    }

    #[test]
    fn a_closed_pipe_ends_in_silence() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Done);
        assert_eq!(failure.line(), None);
        let failure = Failure::output(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.exit, Exit::System);
    }

    #[test]
    fn the_library_advises_and_the_hint_names_the_command() {
        let line = |failure: Failure| failure.line().expect("a message");
        let text = line(AttachError::NotFound { name: name() }.into());
        assert!(text.ends_with(" (kv-cli create makes one, kv-cli ls lists them)"), "{text}");
        assert!(line(BROKEN.into()).contains(" (kv-cli check; kv-cli salvage "));
        assert!(line(CreateError::Exists { name: name() }.into()).ends_with(" (kv-cli rm)"));
        // Nobody is told to remove what is no store.
        let foreign = CreateError::Occupied { name: name(), kind: "a directory" };
        assert!(!line(foreign.into()).contains("kv-cli"));
        assert!(!line(AttachError::NotAStore { name: name(), found: 1 }.into()).contains("kv-cli"));
    }

    #[test]
    fn a_message_is_one_line() {
        let failure = Failure::usage("first\n\n  second\n").at("line 3");
        assert_eq!(failure.line().as_deref(), Some("line 3: first; second"));
    }

    #[test]
    fn codes_go_there_and_back() {
        for code in (0..=9).chain([130]) {
            assert_eq!(Exit::from_code(code).code(), code);
        }
        assert_eq!(Exit::from_code(77), Exit::System);
    }
}
