//! Readers of the files, as far as they go: each gives what a test asks about.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};
use tidewall::duration;

/// `docker-compose.yml`, its aliases and merges resolved.
pub(crate) struct Compose {
    text: String,
    root: Value,
}

impl Compose {
    pub(crate) fn read() -> Compose {
        let text = fs::read_to_string("docker-compose.yml").unwrap();
        let documents = Yaml::load_from_str(&text).unwrap();
        let root = value(&documents[0]);
        Compose { text, root }
    }

    /// The entries of one of the file's tables.
    pub(crate) fn map(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        let map = self.root[name].as_object().unwrap();
        map.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map("services")
    }

    pub(crate) fn service(&self, name: &str) -> &Value {
        &self.root["services"][name]
    }

    /// The services that run our image.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.services()
            .filter(|(_, service)| service.get("build").is_some())
    }

    /// Names of what is filled in from the environment; `$$` is a dollar.
    pub(crate) fn interpolated(&self) -> BTreeSet<&str> {
        let begun = self.text.split("${").skip(1);
        begun
            .map(|rest| rest.split([':', '}', '?', '-']).next().unwrap())
            .collect()
    }
}

/// A service's `TIDEWALL_*`, what is filled in replaced by a word.
pub(crate) fn variables(service: &Value) -> BTreeMap<String, String> {
    let own = service.get("environment").and_then(Value::as_object);
    let own = own.into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().unwrap_or_else(|| panic!("{name}: {value}"));
        (name.clone(), filled_in(value))
    });
    own.filter(|(name, _)| name.starts_with("TIDEWALL_"))
        .collect()
}

fn filled_in(text: &str) -> String {
    let mut parts = text.split("${");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push_str("secret");
        whole.push_str(part.split_once('}').unwrap().1);
    }
    whole
}

pub(crate) fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn value(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(yes)) => (*yes).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(list) => list.iter().map(value).collect(),
        Yaml::Mapping(map) => {
            let mut merged = Map::new();
            for (key, entry) in map {
                let (key, entry) = (key.as_str().unwrap().to_owned(), value(entry));
                match entry {
                    // What stands behind the merge is the mapping's own, and wins.
                    Value::Object(base) if key == "<<" => merged.extend(base),
                    entry => drop(merged.insert(key, entry)),
                }
            }
            Value::Object(merged)
        }
        other => panic!("not used here: {other:?}"),
    }
}

pub(crate) struct Dockerfile(Vec<String>);

impl Dockerfile {
    /// Its instructions, each on one line.
    pub(crate) fn read() -> Dockerfile {
        let text = fs::read_to_string("Dockerfile").unwrap();
        let code = text.lines().filter(|line| !line.starts_with('#'));
        let text = code.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
        Dockerfile(text.lines().map(str::to_owned).collect())
    }

    fn all(&self, instruction: &str) -> impl Iterator<Item = &str> {
        let begin = format!("{instruction} ");
        self.0
            .iter()
            .filter_map(move |line| line.strip_prefix(begin.as_str()))
    }

    /// What stands behind the last of these instructions, which counts.
    pub(crate) fn line(&self, instruction: &str) -> &str {
        self.all(instruction).last().unwrap()
    }

    /// The same as words, whether they are written as a list or not.
    pub(crate) fn words(&self, instruction: &str) -> Vec<String> {
        let line = self.line(instruction);
        serde_json::from_str(line)
            .unwrap_or_else(|_| line.split_whitespace().map(str::to_owned).collect())
    }

    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        pairs(self.line("ENV").split_whitespace())
    }

    pub(crate) fn images(&self) -> Vec<String> {
        let of_line = |line: &str| line.split_whitespace().next().unwrap().to_owned();
        self.all("FROM").map(of_line).collect()
    }

    /// Paths that come from the tree, not from another stage.
    pub(crate) fn copied(&self) -> Vec<String> {
        let own = self.all("COPY").filter(|line| !line.starts_with("--from"));
        own.flat_map(|line| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            words.pop();
            words
        })
        .map(str::to_owned)
        .collect()
    }
}

fn pairs<'t>(words: impl Iterator<Item = &'t str>) -> BTreeMap<String, String> {
    let pair = |word: &'t str| word.split_once('=').unwrap();
    words
        .map(pair)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) struct Haproxy(Vec<Vec<String>>);

impl Haproxy {
    pub(crate) fn read() -> Haproxy {
        let text = fs::read_to_string("deploy/haproxy.cfg").unwrap();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        Haproxy(text.lines().map(words).collect())
    }

    /// The words of the only line that begins so.
    fn line(&self, first: &str) -> &[String] {
        let mut found = self
            .0
            .iter()
            .filter(|line| line.first().is_some_and(|w| w == first));
        let line = found.next().unwrap();
        assert!(found.next().is_none(), "a second {first}");
        line
    }

    fn number(&self, word: &str) -> &str {
        let line = self.line("default-server");
        let at = line.iter().position(|w| w == word).unwrap();
        &line[at + 1]
    }

    pub(crate) fn bind(&self) -> &str {
        &self.line("bind")[1]
    }

    /// Addresses, in order.
    pub(crate) fn servers(&self) -> Vec<String> {
        let servers = self
            .0
            .iter()
            .filter(|line| line.first().is_some_and(|w| w == "server"));
        servers.map(|line| line[2].clone()).collect()
    }

    pub(crate) fn check_interval(&self) -> Duration {
        duration::parse(self.number("inter")).unwrap()
    }

    pub(crate) fn checks_to_fall(&self) -> u32 {
        self.number("fall").parse().unwrap()
    }
}

pub(crate) struct Unit(String);

impl Unit {
    pub(crate) fn read() -> Unit {
        Unit(fs::read_to_string("deploy/tidewall.service").unwrap())
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        let begin = format!("{key}=");
        self.0
            .lines()
            .filter_map(move |line| line.strip_prefix(begin.as_str()))
    }

    pub(crate) fn value(&self, key: &str) -> String {
        self.all(key).last().unwrap().to_owned()
    }

    pub(crate) fn command(&self) -> Vec<String> {
        let command = self.value("ExecStart");
        command.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        pairs(self.all("Environment"))
    }
}
