//! Files that the program writes are those that are committed: `weir-controller crds print --dir manifests/crds`.

use std::path::Path;
use std::process::Command;

#[test]
fn the_manifests_of_the_resources_are_current() {
    let written = std::env::temp_dir().join(format!("weir-crds-{}", std::process::id()));
    let run =
        Command::new(env!("CARGO_BIN_EXE_weir-controller")).args(["crds", "print", "--dir"]).arg(&written).status();
    assert!(run.expect("runs").success());
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds");
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).expect("a folder").map(|e| e.expect("an entry").file_name());
        entries.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&written), names(&committed));
    for name in names(&written) {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(&name)).expect("readable");
        assert_eq!(read(&written), read(&committed), "run weir-controller crds print --dir manifests/crds");
    }
    std::fs::remove_dir_all(&written).expect("removed");
}
