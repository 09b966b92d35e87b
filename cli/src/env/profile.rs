//! A profile in the AWS configuration files, with a `services` section that redirects the two services and nothing else.

use std::path::{Path, PathBuf};

use crate::data_dir::{DefaultKey, write_private};
use crate::{CommandError, CommandResult};

/// Writes the profile; other sections of the files stay as they are.
///
/// # Errors
/// When the name is none, or the files cannot be read or written.
pub fn write(name: &str, key: &DefaultKey, url: &str, region: &str) -> CommandResult<Vec<PathBuf>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name == "default" || !name.chars().all(plain) {
        return Err(CommandError(
            "a profile's name has characters of [A-Za-z0-9_.-], and `default` would redirect your other AWS calls".to_owned(),
        ));
    }
    let config = vec![
        (
            format!("profile {name}"),
            vec![format!("region = {region}"), format!("services = agent-identity-{name}")],
        ),
        (
            format!("services agent-identity-{name}"),
            ["bedrock_agentcore", "bedrock_agentcore_control"]
                .iter()
                .flat_map(|service| [format!("{service} ="), format!("  endpoint_url = {url}")])
                .collect(),
        ),
    ];
    let credentials = vec![(
        name.to_owned(),
        vec![
            format!("aws_access_key_id = {}", key.access_key_id),
            format!("aws_secret_access_key = {}", key.secret_access_key.expose()),
        ],
    )];
    let config_path = file("AWS_CONFIG_FILE", "config")?;
    let credentials_path = file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
    let (config_before, credentials_before) = (read(&config_path)?, read(&credentials_path)?);
    // A profile of the user's own holds keys that nobody can give back.
    let ours =
        has_line(&config_before, &format!("profile {name}"), &format!("services = agent-identity-{name}"));
    if !ours {
        for (path, text, header) in [
            (&config_path, &config_before, format!("profile {name}")),
            (&credentials_path, &credentials_before, name.to_owned()),
        ] {
            if section(text, &header).next().is_some() {
                return Err(CommandError(format!(
                    "{} already has a section [{header}] that is not ours, and it stays as it is: take another name",
                    path.display()
                )));
            }
        }
    }
    for (path, before, sections) in
        [(&config_path, config_before, config), (&credentials_path, credentials_before, credentials)]
    {
        let text = sections.iter().fold(before, |text, (header, lines)| replace(&text, header, lines));
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // A link to a file elsewhere stays a link.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_new| path.clone());
        write_private(&target, text.as_bytes())?;
    }
    Ok(vec![config_path, credentials_path])
}

fn read(path: &Path) -> CommandResult<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(CommandError(format!("cannot read {}: {error}", path.display()))),
    }
}

/// The header in a line, if it is one.
fn header_of(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.split(']').next()
}

fn same_header(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

/// The lines of a section, its header first.
fn section<'t>(text: &'t str, header: &str) -> impl Iterator<Item = &'t str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        if let Some(found) = header_of(line) {
            inside = same_header(found, header);
        }
        inside
    })
}

fn has_line(text: &str, header: &str, wanted: &str) -> bool {
    let plain = |line: &str| line.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    section(text, header).any(|line| plain(line) == plain(wanted))
}

fn file(variable: &str, name: &str) -> CommandResult<PathBuf> {
    match std::env::var_os(variable) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Ok(etcetera::home_dir()?.join(".aws").join(name)),
    }
}

/// The text with the section of this header replaced, or added at the end.
fn replace(text: &str, header: &str, lines: &[String]) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(found) = header_of(line) {
            inside = same_header(found, header);
        }
        // A comment may belong to what follows: it is nobody's to remove.
        if !inside || trimmed.starts_with(['#', ';']) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let kept = kept.trim_end();
    let gap = if kept.is_empty() { "" } else { "\n\n" };
    format!("{kept}{gap}[{header}]\n{}\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d22_a_section_is_ours_only_when_it_says_so() {
        let text = "[profile a]\nservices=agent-identity-a\n[profile b]\nregion = x\n";
        assert!(has_line(text, "profile a", "services = agent-identity-a"));
        assert!(!has_line(text, "profile b", "services = agent-identity-b"));
        assert_eq!(section(text, "profile  b").count(), 2);
        assert_eq!(section(text, "b").count(), 0);
    }

    #[test]
    fn d22_other_sections_stay_and_a_second_write_changes_nothing() {
        let text = "[default]\nregion = eu-west-1\n\n[profile x]\nold = 1\n\n# mine\n[profile xy]\na = b\n";
        let lines = vec!["region = us-east-1".to_owned()];
        let once = replace(text, "profile x", &lines);
        assert_eq!(
            once,
            "[default]\nregion = eu-west-1\n\n# mine\n[profile xy]\na = b\n\n[profile x]\nregion = us-east-1\n"
        );
        assert_eq!(replace(&once, "profile x", &lines), once);
        assert_eq!(replace("", "p", &lines), "[p]\nregion = us-east-1\n");
    }

    proptest::proptest! {
        #[test]
        fn d22_replacing_a_section_leaves_every_other_line(text in "(\\[[ab]\\]\n|[a-z =#]{0,8}\n){0,12}") {
            let lines = vec!["k = v".to_owned()];
            let once = replace(&text, "a", &lines);
            proptest::prop_assert_eq!(&replace(&once, "a", &lines), &once);
            proptest::prop_assert!(once.ends_with("[a]\nk = v\n"));
            let others = |text: &str| section(text, "b").filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let comments = |text: &str| text.lines().filter(|line| line.trim().starts_with('#')).count();
            proptest::prop_assert!(others(&once).len() >= others(&text).len());
            proptest::prop_assert_eq!(comments(&once), comments(&text));
        }
    }
}
