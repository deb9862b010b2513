//! Keys in a file, and lists of tokens that were taken back.

use std::path::{Path, PathBuf};

use super::*;
use provider::set;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Puts a file in the place of another at once.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Waits until the last reading of a watched file has had that result.
async fn was_read(site: &Site, owner: &str, successful: f64) {
    let owner = format!("owner=\"{owner}\"");
    let read = || {
        let name = "tollgate_file_last_read_successful";
        site.gateway.metric(name, &[&owner])
    };
    eventually(|| read() == successful).await;
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_when_it_changes_and_a_broken_one_is_not() {
    let (old, new) = (key(), key());
    let folder = folder();
    let file = folder.path().join("keys.json");
    replace(&file, &set(&[(&old, "a")]));
    let site = Site::with(&format!("jwks_file = '{}'", file.display()), "");
    let remembered = token(&old, "a");
    assert_eq!(site.refusal(&remembered).await, let_in());

    replace(&file, "{\"keys\":");
    was_read(&site, "jwt.main", 0.0).await;
    assert_eq!(site.refusal(&remembered).await, let_in());

    replace(&file, &set(&[(&new, "a")]));
    was_read(&site, "jwt.main", 1.0).await;
    let refused = (401, "auth.jwt.bad_signature".to_owned());
    assert_eq!(site.refusal(&remembered).await, refused);
    assert_eq!(site.refusal(&token(&new, "a")).await, let_in());
}

/// A site with a list of revoked tokens.
struct Revoking {
    site: Site,
    signer: Signer,
    list: PathBuf,
    _folder: TempDir,
}

impl Revoking {
    fn with(list: Option<&str>) -> Self {
        let (folder, signer) = (folder(), key());
        let (keys, file) = (
            folder.path().join("keys.json"),
            folder.path().join("revoked.txt"),
        );
        replace(&keys, &set(&[(&signer, "a")]));
        if let Some(list) = list {
            replace(&file, list);
        }
        let table = format!(
            "jwks_file = '{}'\nrevocation = {{ file = '{}', max_stale = '1h' }}",
            keys.display(),
            file.display()
        );
        Self {
            site: Site::with(&table, ""),
            signer,
            list: file,
            _folder: folder,
        }
    }

    async fn refusal(&self, id: &str, subject: &str) -> (u16, String) {
        let claims = json!({ "jti": id, "sub": subject });
        self.site
            .refusal(&token_with(&self.signer, "a", claims))
            .await
    }

    async fn was_read(&self, successful: f64) {
        was_read(&self.site, "jwt.main.revocation", successful).await;
    }
}

fn revoked() -> (u16, String) {
    (401, "auth.jwt.revoked".to_owned())
}

fn not_told() -> (u16, String) {
    (503, "auth.jwt.revocation_unknown".to_owned())
}

#[tokio::test]
async fn a_token_is_revoked_by_its_id_or_its_subject_remembered_or_not() {
    let site = Revoking::with(Some("# none yet\n"));
    for (id, subject) in [("1", "alice"), ("2", "bob"), ("3", "carol")] {
        assert_eq!(site.refusal(id, subject).await, let_in());
    }
    replace(&site.list, "1\nsub: bob\n");
    let reads = || {
        let labels = ["jwt.main.revocation", "success"];
        site.site
            .gateway
            .metric("tollgate_file_reads_total", &labels)
    };
    eventually(|| reads() == 2.0).await;
    assert_eq!(site.refusal("1", "alice").await, revoked());
    assert_eq!(site.refusal("2", "bob").await, revoked());
    assert_eq!(site.refusal("3", "carol").await, let_in());
    // What was never seen, too.
    assert_eq!(site.refusal("4", "bob").await, revoked());
    assert_eq!(site.refusal("1", "dora").await, revoked());
}

#[tokio::test]
async fn a_list_that_is_broken_or_gone_serves_on_until_max_stale_and_then_nobody_is_let_in() {
    let site = Revoking::with(Some("1\n"));
    assert_eq!(site.refusal("2", "bob").await, let_in());
    for fault in [Some("no id at all\n"), None] {
        match fault {
            Some(text) => replace(&site.list, text),
            None => std::fs::remove_file(&site.list).unwrap(),
        }
        site.was_read(0.0).await;
        assert_eq!(site.refusal("2", "bob").await, let_in());
        assert_eq!(site.refusal("1", "alice").await, revoked());
        site.site.clock.advance(SECOND * 3601);
        assert_eq!(site.refusal("2", "bob").await, not_told());
        // What is known to be revoked still is.
        assert_eq!(site.refusal("1", "alice").await, revoked());
        replace(&site.list, "1\n");
        site.was_read(1.0).await;
        assert_eq!(site.refusal("2", "bob").await, let_in());
    }
}

#[tokio::test]
async fn a_list_that_never_was_there_lets_nobody_in() {
    let site = Revoking::with(None);
    assert_eq!(site.refusal("2", "bob").await, not_told());
    assert_eq!(site.site.get("/open", "").await.status, 200);
    replace(&site.list, "");
    site.was_read(1.0).await;
    assert_eq!(site.refusal("2", "bob").await, let_in());
}
