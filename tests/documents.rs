//! The documents lead where they say.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn documents() -> Vec<PathBuf> {
    let of = |directory: &Path| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = of(&root()).chain(of(&root().join("docs")));
    all.filter(|path| path.extension().is_some_and(|it| it == "md")).collect()
}

/// The anchor that a heading has, as Git hosts make it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn each_link_between_documents_leads_somewhere() {
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            links += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: there is no {link}", document.display());
            if !fragment.is_empty() {
                let target = fs::read_to_string(&target).unwrap();
                let anchors: Vec<String> =
                    target.lines().filter(|it| it.starts_with('#')).map(anchor).collect();
                assert!(
                    anchors.iter().any(|it| it == fragment),
                    "{}: {link} is none of {anchors:?}",
                    document.display()
                );
            }
        }
    }
    assert!(links > 50, "links are not found any more: {links}");
}
