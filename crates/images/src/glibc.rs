//! Which C library an image must hold: that of its base may not be older than what asgard's own
//! program and the wheels of the environment were made for.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// A version of glibc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Glibc(u32, u32);

/// Debian's releases that Python's own images are made on, with their glibc.
const DEBIAN: [(&str, Glibc); 2] = [("bookworm", Glibc(2, 36)), ("trixie", Glibc(2, 41))];

/// The first of them.
pub(crate) const OLDEST: &str = DEBIAN[0].0;

/// The type of a section that names the versions which a program needs of its libraries.
const VERSIONS_NEEDED: u32 = 0x6fff_fffe;

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Glibc {
    /// What a program needs; nothing for one that is none, or is linked without glibc.
    pub(crate) fn of_program(path: &Path) -> io::Result<Option<Self>> {
        let names = names_of_versions(&mut File::open(path)?)?;
        Ok(names.iter().filter_map(|name| Self::of_symbols(name)).max())
    }

    /// What the wheels of an environment need, by the tags that they say to be built for.
    pub(crate) fn of_wheels(environment: &Path) -> io::Result<Option<Self>> {
        let mut most = None;
        for python in fs::read_dir(environment.join("lib"))? {
            let packages = python?.path().join("site-packages");
            let Ok(packages) = fs::read_dir(packages) else {
                continue;
            };
            for package in packages {
                let wheel = fs::read_to_string(package?.path().join("WHEEL"));
                most = most.max(wheel.ok().and_then(|wheel| Self::of_wheel(&wheel)));
            }
        }
        Ok(most)
    }

    /// A wheel fits wherever one of its tags does.
    fn of_wheel(text: &str) -> Option<Self> {
        let tags = text.lines().filter_map(|line| line.strip_prefix("Tag: "));
        let glibcs = tags
            .flat_map(|tag| tag.split(['-', '.']))
            .filter_map(|tag| {
                let mut parts = tag.strip_prefix("manylinux_")?.splitn(3, '_');
                Some(Self(
                    parts.next()?.parse().ok()?,
                    parts.next()?.parse().ok()?,
                ))
            });
        glibcs.min()
    }

    /// `GLIBC_2.34`
    fn of_symbols(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?;
        let mut parts = text.split('.').map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?))
    }

    /// The oldest release of Debian that has it.
    pub(crate) fn debian(self) -> Option<&'static str> {
        let mut releases = DEBIAN.iter();
        releases
            .find(|(_, has)| self <= *has)
            .map(|(name, _)| *name)
    }
}

/// The texts beside which a program's needed versions stand; none for what is no 64-bit program.
fn names_of_versions(file: &mut File) -> io::Result<Vec<Vec<u8>>> {
    let mut header = [0; 64];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
        read => read?,
    }
    // Little-endian and of 64 bits, as all platforms are that asgard runs on.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Ok(Vec::new());
    }
    let (at, size, count) = (
        long(&header, 0x28),
        short(&header, 0x3a),
        short(&header, 0x3c),
    );
    let table = part(file, at, u64::from(size) * u64::from(count))?;
    let sections: Vec<&[u8]> = table.chunks_exact(usize::from(size).max(64)).collect();
    let needs = |section: &&&[u8]| int(section, 4) == VERSIONS_NEEDED;
    let names = sections.iter().find(needs).map(|section| int(section, 40));
    let Some(names) = names.and_then(|index| sections.get(index as usize)) else {
        return Ok(Vec::new());
    };
    let texts = part(file, long(names, 24), long(names, 32))?;
    Ok(texts.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

fn part(file: &mut File, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn int(bytes: &[u8], at: usize) -> u32 {
    u32::from(short(bytes, at)) | u32::from(short(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(int(bytes, at)) | u64::from(int(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_needs_is_read_from_it() {
        let this = std::env::current_exe().unwrap();
        let needed = Glibc::of_program(&this).unwrap().unwrap();
        assert!(needed >= Glibc(2, 17), "{needed}");
        let text = tempfile::NamedTempFile::new().unwrap();
        fs::write(&text, "#!/bin/sh\n".repeat(20)).unwrap();
        assert_eq!(Glibc::of_program(text.path()).unwrap(), None);
    }

    #[test]
    fn a_wheel_needs_the_least_of_its_tags_and_an_environment_the_most_of_its_wheels() {
        let environment = tempfile::tempdir().unwrap();
        let both =
            "Tag: cp311-cp311-manylinux_2_17_x86_64\nTag: cp311-cp311-manylinux_2_28_x86_64\n";
        for (name, tags) in [
            ("a-1.dist-info", both),
            ("b-1.dist-info", "Tag: py3-none-any\n"),
            (
                "c-1.dist-info",
                "Tag: cp311-abi3-manylinux_2_27_x86_64.manylinux_2_24_x86_64\n",
            ),
        ] {
            let folder = environment
                .path()
                .join("lib/python3.11/site-packages")
                .join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("WHEEL"), format!("Wheel-Version: 1.0\n{tags}")).unwrap();
        }
        let needed = Glibc::of_wheels(environment.path()).unwrap();
        assert_eq!(needed, Some(Glibc(2, 24)));
    }

    #[test]
    fn the_oldest_release_that_has_it_is_taken() {
        assert_eq!(Glibc(2, 17).debian(), Some("bookworm"));
        assert_eq!(Glibc(2, 36).debian(), Some("bookworm"));
        assert_eq!(Glibc(2, 39).debian(), Some("trixie"));
        assert_eq!(Glibc(2, 99).debian(), None);
    }
}
