//! No guest without a host test that names it.

use super::{Problem, Source};

/// `guests` are package names.
pub(super) fn check(guests: &[String], sources: &[Source]) -> Vec<Problem> {
    guests.iter().filter_map(|guest| check_guest(guest, sources)).collect()
}

fn check_guest(guest: &str, sources: &[Source]) -> Option<Problem> {
    let constant = guest.replace('-', "_").to_uppercase();
    let mut tests = sources.iter().filter(|source| source.is_rust() && source.path.starts_with("host/"));
    // The module is part of the mark, so that a constant of the same name elsewhere does not count.
    let named = tests.any(|source| {
        source.text.contains("guests::")
            && source.text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == constant)
    });
    let message = format!(
        "no test of the host runs this guest: use `penstock_testing::guests::{constant}` in one under host/, \
         or remove the guest"
    );
    (!named).then(|| Problem::new(guest, None, message))
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_guest_is_covered_by_a_test_that_names_its_constant() {
        let guests = ["route-by".to_owned()];
        let covered = [source("host/plugin/tests/route.rs", "use penstock_testing::guests::{self, ROUTE_BY};")];
        assert_eq!(check(&guests, &covered), []);
        for other in ["use penstock_testing::guests::ROUTE_BY_2;", "const ROUTE_BY: u8 = 0;", ""] {
            assert_eq!(check(&guests, &[source("host/plugin/tests/route.rs", other)]).len(), 1, "{other}");
        }
        assert_eq!(check(&guests, &[source("plugins/route-by/src/lib.rs", "guests::ROUTE_BY")]).len(), 1);
    }
}
