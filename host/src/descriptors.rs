//! How many descriptors the process may have.

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// As many as the system allows, and not as many as programs with `select` can cope with: every connection is one, and every live instance
/// of a plugin one more. Beyond the limit nobody is accepted any more.
pub(crate) fn raise() -> Result<(), Errno> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), ..before }).unwrap();
        raise().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
