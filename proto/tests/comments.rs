//! The protos say what everything in them is: every service, method, message, field, enum and enum value has a comment.
//! (A group of alternatives, `oneof`, is no field of its own; its members are.)

use std::collections::BTreeSet;

use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto};

/// Numbers of fields in `descriptor.proto`, by which a location's path names what it is of.
mod field {
    pub(crate) const FILE_MESSAGE: i32 = 4;
    pub(crate) const FILE_ENUM: i32 = 5;
    pub(crate) const FILE_SERVICE: i32 = 6;
    pub(crate) const MESSAGE_FIELD: i32 = 2;
    pub(crate) const MESSAGE_MESSAGE: i32 = 3;
    pub(crate) const MESSAGE_ENUM: i32 = 4;
    pub(crate) const ENUM_VALUE: i32 = 2;
    pub(crate) const SERVICE_METHOD: i32 = 2;
}

/// One file's elements without a comment, as they are found.
struct Walk {
    commented: BTreeSet<Vec<i32>>,
    bare: Vec<String>,
    seen: usize,
}

impl Walk {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
        let said = |text: Option<&str>| text.is_some_and(|text| !text.trim().is_empty());
        let is_commented = |l: &&Location| said(l.leading_comments.as_deref()) || said(l.trailing_comments.as_deref());
        let commented = locations.iter().filter(is_commented).map(|l| l.path.clone()).collect();
        let mut walk = Self { commented, bare: Vec::new(), seen: 0 };
        let package = file.package();
        for (at, message) in (0..).zip(&file.message_type) {
            walk.message(&[field::FILE_MESSAGE, at], package, message);
        }
        for (at, enumeration) in (0..).zip(&file.enum_type) {
            walk.enumeration(&[field::FILE_ENUM, at], package, enumeration);
        }
        for (at, service) in (0..).zip(&file.service) {
            let path = [field::FILE_SERVICE, at];
            let name = walk.element(&path, package, service.name());
            for (at, method) in (0..).zip(&service.method) {
                walk.element(&[&path[..], &[field::SERVICE_METHOD, at]].concat(), &name, method.name());
            }
        }
        walk
    }

    fn element(&mut self, path: &[i32], scope: &str, name: &str) -> String {
        let name = format!("{scope}.{name}");
        self.seen += 1;
        if !self.commented.contains(path) {
            self.bare.push(name.clone());
        }
        name
    }

    fn message(&mut self, path: &[i32], scope: &str, message: &DescriptorProto) {
        // An entry of a map is the compiler's own: nobody wrote it, so nobody can comment it.
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        let name = self.element(path, scope, message.name());
        for (at, field) in (0..).zip(&message.field) {
            self.element(&[path, &[field::MESSAGE_FIELD, at]].concat(), &name, field.name());
        }
        for (at, inner) in (0..).zip(&message.nested_type) {
            self.message(&[path, &[field::MESSAGE_MESSAGE, at]].concat(), &name, inner);
        }
        for (at, inner) in (0..).zip(&message.enum_type) {
            self.enumeration(&[path, &[field::MESSAGE_ENUM, at]].concat(), &name, inner);
        }
    }

    fn enumeration(&mut self, path: &[i32], scope: &str, enumeration: &EnumDescriptorProto) {
        let name = self.element(path, scope, enumeration.name());
        for (at, value) in (0..).zip(&enumeration.value) {
            self.element(&[path, &[field::ENUM_VALUE, at]].concat(), &name, value.name());
        }
    }
}

fn compile(root: &str, files: &[String]) -> Vec<FileDescriptorProto> {
    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_source_info(true).include_imports(false).open_files(files).unwrap();
    compiler.file_descriptor_set().file
}

/// Every `.proto` below `folder`, by its path from `root`.
fn protos(root: &std::path::Path, folder: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            protos(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn everything_in_the_protos_has_a_comment() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    protos(root, &root.join("tidegate"), &mut files);
    files.sort();
    let walks: Vec<Walk> = compile(env!("CARGO_MANIFEST_DIR"), &files).iter().map(Walk::of).collect();
    let seen: usize = walks.iter().map(|walk| walk.seen).sum();
    assert!(seen > 500, "only {seen} elements in {files:?}: the walk does not see them");
    let bare: Vec<&str> = walks.iter().flat_map(|walk| &walk.bare).map(String::as_str).collect();
    assert!(bare.is_empty(), "{} of {seen} elements have no comment:\n{}", bare.len(), bare.join("\n"));
}

#[test]
fn what_has_no_comment_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"
        // A word about the file, which is none about the service.
        syntax = "proto3";
        package p;
        service S {
          rpc Bare(M) returns (M);
          // Said.
          rpc Said(M) returns (M);
        }
        // Said.
        message M {
          map<string, string> bare = 1;
          string said = 2; // Said behind.
          //
          string empty = 3;
          enum E { BARE = 0; }
        }
    "#;
    std::fs::write(folder.path().join("p.proto"), text).unwrap();
    let files = compile(folder.path().to_str().unwrap(), &["p.proto".to_owned()]);
    let walk = Walk::of(&files[0]);
    assert_eq!(walk.bare, ["p.M.bare", "p.M.empty", "p.M.E", "p.M.E.BARE", "p.S", "p.S.Bare"]);
    assert_eq!(walk.seen, 9);
}
