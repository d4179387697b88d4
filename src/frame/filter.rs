//! Stub until part FRAME is merged: knows `k=v` and nothing else.

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Filter {
    key: String,
    value: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterError {
    pub at: usize,
    pub what: String,
}

impl Filter {
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let what = "no `=`".to_owned();
        let (key, value) = text.split_once('=').ok_or(FilterError { at: 0, what })?;
        Ok(Filter {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    pub fn matches(&self, host: &str, tags: &[(String, String)]) -> bool {
        if self.key == "host" {
            return self.value == host;
        }
        let mut tags = tags.iter();
        tags.any(|(key, value)| *key == self.key && *value == self.value)
    }
}
