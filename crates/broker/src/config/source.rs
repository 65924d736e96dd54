//! What was typed where: flag over variable over file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use midge_core::setting::nearest;
use midge_store::hot::HotSettings;
use midge_store::push::PushSettings;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::fault::{Fault, Faults, Place};
use super::listener::{Listener, doubles};
use super::section::Setting;
use super::settings::{self, Draft, LISTENER, ListenerDraft, PLUGIN_ONLY};
use super::value::Value;
use super::{Config, Journal, default_data_directory};

/// The largest file that is read, in bytes: no configuration is larger.
const MAX_FILE: u64 = 1 << 20;
/// The variables that are none of settings.
const OTHER_VARIABLES: [&str; 1] = ["MIDGE_CONFIG"];
/// The most listeners that variables can name.
const MAX_LISTENERS: usize = 1_000;

/// A value and where it was typed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) text: String,
    pub(super) place: Place,
    base: PathBuf,
}

impl std::fmt::Debug for Typed {
    /// Leaves the text out: it may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The values of one listener.
pub(super) type GivenListener = BTreeMap<&'static str, Typed>;

/// All values that were typed; of those for the same setting the one that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) values: BTreeMap<&'static str, Typed>,
    pub(super) listeners: Vec<GivenListener>,
}

/// Takes what was typed, the weakest source first, and says what it means.
#[derive(Debug, Default)]
pub struct Sources {
    given: Given,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl Sources {
    /// Returns sources without anything in them: all defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the file at `path`; what it says wins over what was taken before.
    pub fn file(&mut self, path: &Path) {
        let read = || {
            let size = std::fs::metadata(path)?.len();
            if size > MAX_FILE { Err(std::io::Error::other(format!("it has {size} bytes"))) } else { std::fs::read_to_string(path) }
        };
        match read() {
            Ok(text) => self.text(path, &text),
            Err(error) => {
                let problem = format!("the file can't be read: {error}; allowed is a TOML file of at most 1 MiB");
                self.faults.push(Fault { place: Place::File(path.to_owned(), 0), key: None, value: None, problem });
            }
        }
    }

    /// Takes those of `variables` that begin with `MIDGE_`; what they say wins over what was taken before.
    ///
    /// An empty one is as good as none. An unknown one is a warning, as some platforms make variables of their own.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("MIDGE_")) else { continue };
            if OTHER_VARIABLES.contains(&name) || value.is_empty() {
                continue;
            }
            let place = Place::Variable(name.to_owned());
            let Some(value) = value.to_str() else {
                let problem = "the value is no UTF-8".to_owned();
                self.faults.push(Fault { place, key: None, value: None, problem });
                continue;
            };
            self.variable(name, Typed { text: value.to_owned(), place, base: PathBuf::new() });
        }
    }

    /// Takes a flag that gives `value` to the setting `name`; it wins over what was taken before.
    ///
    /// # Panics
    /// There is no setting of that name.
    pub fn flag(&mut self, name: &str, flag: &'static str, value: &str) {
        let setting = find(settings::all(), name).expect("flags stand for settings that there are");
        self.given.values.insert(setting.name, Typed::flag(flag, value));
    }

    /// Takes the addresses of plain MQTT listeners; where there are any, there are no others.
    pub fn listen(&mut self, flag: &'static str, addresses: &[String]) {
        if !addresses.is_empty() {
            let listener = |address: &String| BTreeMap::from([("address", Typed::flag(flag, address))]);
            self.given.listeners = addresses.iter().map(listener).collect();
        }
    }

    /// Returns what is not wrong and yet probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns what all of it means.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn finish(self) -> Result<Config, Faults> {
        self.given.read(self.faults)
    }

    fn text(&mut self, path: &Path, text: &str) {
        let line = |span: Range<usize>| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1;
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = Place::File(path.to_owned(), error.span().map_or(0, line));
            self.faults.push(Fault { place, key: None, value: None, problem: format!("this is no TOML: {}", error.message()) });
        }
        if !errors.is_empty() {
            // What was made of the rest is a guess, and would be complained about once more.
            return;
        }
        let mut file = File { path, line: &line, sources: self };
        for (key, value) in table.get_ref() {
            file.top(key, value);
        }
    }

    fn variable(&mut self, name: &str, typed: Typed) {
        let key = name["MIDGE_".len()..].to_ascii_lowercase();
        if let Some(setting) = find(settings::all(), &key) {
            self.given.values.insert(setting.name, typed);
            return;
        }
        let listener = key.strip_prefix("listener_").and_then(|rest| rest.split_once('_'));
        let listener = listener.and_then(|(number, key)| {
            let setting = LISTENER.iter().find(|setting| setting.name.replace('.', "_") == key)?;
            Some((number.parse::<usize>().ok()?, setting.name))
        });
        match listener {
            Some((number @ 1..=MAX_LISTENERS, key)) => {
                let listeners = &mut self.given.listeners;
                listeners.resize(listeners.len().max(number), GivenListener::new());
                listeners[number - 1].insert(key, typed);
            }
            _ => {
                let names: Vec<String> = settings::all().map(|setting| variable_of(setting.name)).collect();
                let hint = nearest(name, names.iter().map(String::as_str));
                let hint = hint.map_or(String::new(), |hint| format!("; did you mean {hint}?"));
                self.warnings.push(format!("the variable {name} is unknown and is ignored{hint}"));
            }
        }
    }
}

/// Returns the variable that stands for a setting.
pub(super) fn variable_of(name: &str) -> String {
    format!("MIDGE_{}", name.to_ascii_uppercase())
}

fn find<T>(mut settings: impl Iterator<Item = &'static Setting<T>>, name: &str) -> Option<&'static Setting<T>> {
    settings.find(|setting| setting.name == name)
}

/// A file that is being read.
struct File<'a> {
    path: &'a Path,
    line: &'a dyn Fn(Range<usize>) -> usize,
    sources: &'a mut Sources,
}

type Key<'i> = Spanned<DeString<'i>>;
type Content<'i> = Spanned<DeValue<'i>>;

impl File<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place::File(self.path.to_owned(), (self.line)(span))
    }

    fn fault(&mut self, key: &Key<'_>, name: String, value: Option<String>, problem: String) {
        let place = self.place(key.span());
        self.sources.faults.push(Fault { place, key: Some(name), value, problem });
    }

    /// Takes a key at the top of the file.
    fn top(&mut self, key: &Key<'_>, value: &Content<'_>) {
        let name = key.get_ref().as_ref();
        if name == "listener" {
            return self.listeners(key, value.get_ref());
        }
        match find(settings::all(), name) {
            Some(setting) => {
                if let Some(typed) = self.scalar(key, name, value.get_ref()) {
                    self.sources.given.values.insert(setting.name, typed);
                }
            }
            None => self.fault(key, name.to_owned(), None, unknown(name, value.get_ref())),
        }
    }

    fn listeners(&mut self, key: &Key<'_>, value: &DeValue<'_>) {
        let Some(all) = value.as_array().filter(|all| all.iter().all(|each| each.get_ref().is_table())) else {
            let problem = "it is a list of tables: allowed is [[listener]] above the settings of each".to_owned();
            return self.fault(key, "listener".to_owned(), None, problem);
        };
        let tables: Vec<&DeTable<'_>> = all.iter().filter_map(|each| each.get_ref().as_table()).collect();
        self.sources.given.listeners = vec![GivenListener::new(); tables.len()];
        for (at, table) in tables.into_iter().enumerate() {
            for (key, value) in table {
                match (key.get_ref().as_ref(), value.get_ref().as_table()) {
                    ("tls", Some(tls)) => {
                        tls.iter().for_each(|(key, value)| self.listener(at, key, &format!("tls.{}", key.get_ref()), value));
                    }
                    (name, _) => self.listener(at, key, name, value),
                }
            }
        }
    }

    fn listener(&mut self, at: usize, key: &Key<'_>, name: &str, value: &Content<'_>) {
        let shown = listener_key(at, name);
        match LISTENER.iter().find(|setting| setting.name == name) {
            Some(setting) => {
                if let Some(typed) = self.scalar(key, &shown, value.get_ref()) {
                    self.sources.given.listeners[at].insert(setting.name, typed);
                }
            }
            None if find(settings::all(), name).is_some() => {
                let problem = "this is a setting of the whole server: it has to stand above the first [[listener]]".to_owned();
                self.fault(key, shown, None, problem);
            }
            None => {
                let problem = match nearest(name, LISTENER.iter().map(|setting| setting.name)) {
                    Some(meant) => format!("there is no such setting of listeners; did you mean {meant}?"),
                    None => "there is no such setting of listeners; docs/CONFIG.md lists all".to_owned(),
                };
                self.fault(key, shown, None, problem);
            }
        }
    }

    fn scalar(&mut self, key: &Key<'_>, name: &str, value: &DeValue<'_>) -> Option<Typed> {
        let text = match value {
            DeValue::String(text) => Some(text.as_ref().to_owned()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string()),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            _ => None,
        };
        let Some(text) = text else {
            let problem =
                format!("a text, a whole number or a switch is expected, and not a value of the type {}", value.type_str());
            self.fault(key, name.to_owned(), None, problem);
            return None;
        };
        let base = self.path.parent().unwrap_or(Path::new("")).to_owned();
        Some(Typed { text, place: self.place(key.span()), base })
    }
}

/// Returns what is said about a key at the top of the file that is no setting.
fn unknown(name: &str, value: &DeValue<'_>) -> String {
    if let Some((_, why)) = PLUGIN_ONLY.iter().find(|(plugin, _)| *plugin == name) {
        return format!("this is a setting of the plugin for Mosquitto: {why}");
    }
    let names = settings::all().map(|setting| setting.name).chain(["listener"]);
    match nearest(name, names) {
        Some(meant) => format!("there is no such setting; did you mean {meant}?"),
        None if value.is_table() => "there is no such table: all settings but those of listeners stand at the top".to_owned(),
        None => "there is no such setting; docs/CONFIG.md lists all".to_owned(),
    }
}

/// Returns how messages name a listener's setting; the first listener is number 1.
pub(super) fn listener_key(at: usize, name: &str) -> String {
    format!("listener {}: {name}", at + 1)
}

impl Typed {
    fn flag(flag: &'static str, value: &str) -> Self {
        Self { text: value.to_owned(), place: Place::Flag(flag), base: PathBuf::new() }
    }

    /// Writes the value into `draft`.
    fn set<T>(&self, setting: &Setting<T>, draft: &mut T, key: impl FnOnce() -> String) -> Result<(), Fault> {
        (setting.set)(draft, Value { text: &self.text, base: &self.base }).map_err(|found| Fault {
            place: self.place.clone(),
            key: Some(key()),
            value: Some((setting.shown)(&self.text)),
            problem: match found.is_empty() {
                true => format!("allowed is {}", setting.allowed),
                false => format!("{found}; allowed is {}", setting.allowed),
            },
        })
    }
}

impl Given {
    /// Returns what the values mean, where there are no `faults` and none are found.
    pub(super) fn read(self, mut faults: Vec<Fault>) -> Result<Config, Faults> {
        let mut draft = Draft::default();
        for setting in settings::all() {
            let typed = self.values.get(setting.name);
            faults.extend(typed.and_then(|typed| typed.set(setting, &mut draft, || setting.name.to_owned()).err()));
        }
        let listeners = self.read_listeners(&draft, &mut faults);
        let data = draft.data.take().unwrap_or_else(default_data_directory);
        let store = self.store(&draft, &data).map_err(|fault| faults.push(fault)).ok();
        if let Err(problem) = draft.users.login(midge_core::gate::Anonymous::Deny)
            && faults.is_empty()
        {
            // Each by itself was read already, so what is wrong is that they stand side by side.
            let files = ["jwt_jwks_file", "jwt_key_file", "jwt_secret_file"];
            let key = files.into_iter().find(|key| self.values.contains_key(key)).unwrap_or(files[0]);
            faults.push(self.fault(key, None, problem));
        }
        Faults::check(faults)?;
        let store = store.expect("a store that can't be read is a fault");
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let node = draft.node.unwrap_or_else(|| Some(host()).filter(|name| !name.is_empty()).unwrap_or("midge".to_owned()));
        Ok(Config {
            journal: match draft.journal.directory.as_os_str().is_empty() {
                true => Journal { directory: data.join("journal"), ..draft.journal },
                false => draft.journal,
            },
            data,
            pushes: draft.push.then(|| PushSettings { node: node.clone(), ..draft.push_settings }),
            presence: draft.presence.then_some(draft.presence_settings),
            hot: draft.hot.then(|| HotSettings { node: node.clone(), ..draft.hot_settings }),
            report: draft.report,
            metrics: draft.metrics,
            node,
            threads: draft.threads,
            sys_interval: draft.sys_interval,
            listeners,
            connections: draft.connections,
            engine: draft.engine,
            store,
            store_settings: draft.store_settings,
            users: draft.users,
            log: draft.log,
            given: self,
        })
    }

    fn read_listeners(&self, draft: &Draft, faults: &mut Vec<Fault>) -> Vec<Listener> {
        if self.listeners.is_empty() {
            return Listener::defaults();
        }
        let mut listeners = Vec::new();
        for (at, given) in self.listeners.iter().enumerate() {
            let mut listener = ListenerDraft::default();
            let before = faults.len();
            for setting in LISTENER {
                let typed = given.get(setting.name);
                faults.extend(typed.and_then(|typed| typed.set(setting, &mut listener, || listener_key(at, setting.name)).err()));
            }
            if faults.len() > before {
                // What goes together with a value that can't be read is not known.
                continue;
            }
            let somewhere = given.values().next().map_or(Place::Default, |typed| typed.place.clone());
            let fault = |(key, problem): (&'static str, String)| Fault {
                place: given.get(key).map_or(somewhere.clone(), |typed| typed.place.clone()),
                key: Some(listener_key(at, key)),
                value: given.get(key).map(|typed| typed.text.clone()),
                problem,
            };
            match listener.finish(draft.users.identity) {
                Ok(listener) => listeners.push(listener),
                Err(clashes) => faults.extend(clashes.into_iter().map(fault)),
            }
        }
        if listeners.len() == self.listeners.len() {
            faults.extend(doubles(&listeners).into_iter().filter_map(|at| {
                let key = if self.listeners[at].contains_key("unix") { "unix" } else { "address" };
                let typed = self.listeners[at].get(key)?;
                let problem = "another listener has this address already".to_owned();
                Some(Fault {
                    place: typed.place.clone(),
                    key: Some(listener_key(at, key)),
                    value: Some(typed.text.clone()),
                    problem,
                })
            }));
        }
        listeners
    }

    fn store(&self, draft: &Draft, data: &Path) -> Result<midge_store::StoreUrl, Fault> {
        let text = draft.store.clone().unwrap_or_else(|| format!("file:{}", data.display()));
        let url: midge_store::StoreUrl = text.parse().map_err(|error: midge_store::StoreUrlError| {
            let shown = midge_core::setting::without_password(&text);
            self.fault("store", Some(shown), error.to_string())
        })?;
        Ok(url.with_credentials(draft.store_user.as_deref(), draft.store_password.as_deref()))
    }

    fn fault(&self, key: &str, value: Option<String>, problem: String) -> Fault {
        let place = self.values.get(key).map_or(Place::Default, |typed| typed.place.clone());
        Fault { place, key: Some(key.to_owned()), value, problem }
    }
}
