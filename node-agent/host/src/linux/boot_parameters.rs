//! A kernel's command line, read as the kernel reads it.

use std::collections::BTreeMap;

/// The parameters, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParameters(Vec<(String, Option<String>)>);

impl BootParameters {
    /// Splits at blanks outside of double quotes; what follows `--` is for init.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let (mut word, mut quoted) = (String::new(), false);
        for symbol in text.chars() {
            match symbol {
                '"' => quoted = !quoted,
                blank if blank.is_ascii_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
                other => word.push(other),
            }
        }
        words.push(word);
        let parameters = words.into_iter().filter(|word| !word.is_empty()).take_while(|word| word != "--");
        Self(
            parameters
                .map(|word| match word.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word, None),
                })
                .collect(),
        )
    }

    /// The last value of a parameter, which is the one that counts; empty for one without a value.
    pub fn last(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(other, _)| same(other, name))?;
        Some(found.1.as_deref().unwrap_or_default())
    }

    /// A switch, as `kstrtobool()` reads it: none when it is not given, or says nothing that it knows.
    pub fn switch(&self, name: &str) -> Option<bool> {
        let value = self.last(name)?.to_ascii_lowercase();
        match value.as_bytes() {
            [b'y' | b't' | b'1', ..] | [b'o', b'n', ..] => Some(true),
            [b'n' | b'f' | b'0', ..] | [b'o', b'f', ..] => Some(false),
            _ => None,
        }
    }

    /// All values of the parameters that `wanted` chooses, by name: what two kernels can be compared by.
    pub fn chosen(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<String>> {
        let mut chosen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in self.0.iter().filter(|(name, _)| wanted(&name.replace('-', "_"))) {
            chosen.entry(name.replace('-', "_")).or_default().push(value.clone().unwrap_or_default());
        }
        chosen
    }
}

/// The kernel makes no difference between `-` and `_` in names.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one
            .bytes()
            .zip(other.bytes())
            .all(|(a, b)| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_')))
}

/// A size as `memparse()` reads it: a number with K, M, G or T behind.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts_quotes_hold_and_init_has_its_own() {
        let line =
            "kho=off root=/dev/vda kho=on vfio-pci.ids=\"8086:10fb, 10de:1eb8\" quiet -- liveupdate=on";
        let parameters = BootParameters::parse(line);
        assert_eq!(parameters.switch("kho"), Some(true));
        assert_eq!(parameters.last("vfio_pci.ids"), Some("8086:10fb, 10de:1eb8"));
        assert_eq!(parameters.last("quiet"), Some(""));
        assert_eq!(parameters.switch("quiet"), None);
        assert_eq!(parameters.switch("liveupdate"), None);
        assert_eq!(BootParameters::parse("a=0 b=n c=OFF d=y e=1 f=maybe").switch("c"), Some(false));
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["64M", "1g", "512", "256k", "x", "", "9T", "64MB"].map(size);
        let wanted =
            [Some(64 << 20), Some(1 << 30), Some(512), Some(256 << 10), None, None, Some(9 << 40), None];
        assert_eq!(sizes, wanted);
    }
}
