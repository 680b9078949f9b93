//! Declaring a configuration: name, type, default and reason of each key in one place.

/// One key, as it was declared.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name within its section.
    pub name: &'static str,
    /// Its doc comment, line by line as written.
    pub doc: &'static [&'static str],
    /// The keys in it, when it is a section.
    pub inner: &'static [Key],
}

/// A struct whose keys were declared with [`settings!`](crate::settings).
pub trait Described {
    /// Its keys, in the order of the declaration.
    const KEYS: &'static [Key];
}

/// Visits every key that has a value, by its dotted name.
pub(crate) fn each(keys: &'static [Key], prefix: &str, visit: &mut impl FnMut(String, &'static Key)) {
    for key in keys {
        let name = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        if key.inner.is_empty() { visit(name, key) } else { each(key.inner, &name, visit) }
    }
}

/// The dotted names of all keys that have a value.
pub(crate) fn names(keys: &'static [Key]) -> Vec<String> {
    let mut names = Vec::new();
    each(keys, "", &mut |name, _| names.push(name));
    names
}

/// Declares a struct of settings: its fields with doc comment and default, then (optionally) its sections, which are
/// structs declared the same way. Makes the struct, its `Default` and its [`Described`].
///
/// The doc comment of a field is what an operator reads: it says the unit and the reason for the default.
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field_vis:vis $field:ident: $type:ty = $default:expr, )*
        }
        $( sections {
            $( $(#[doc = $section_doc:literal])+ $section_vis:vis $section:ident: $section_type:ty, )*
        } )?
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $( $(#[doc = $doc])+ $field_vis $field: $type, )*
            $( $( $(#[doc = $section_doc])+ $section_vis $section: $section_type, )* )?
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    $( $( $section: ::core::default::Default::default(), )* )?
                }
            }
        }

        impl $crate::Described for $name {
            const KEYS: &'static [$crate::Key] = &[
                $( $crate::Key { name: stringify!($field), doc: &[$($doc),+], inner: &[] }, )*
                $( $( $crate::Key {
                    name: stringify!($section),
                    doc: &[$($section_doc),+],
                    inner: <$section_type as $crate::Described>::KEYS,
                }, )* )?
            ];
        }
    };
}
