//! The type declarations in published Go API packages: names, types, tags and comment markers of fields, nothing else.
//!
//! Reads the plain style those packages are written in (one field per line, tags in back quotes), not all of Go.

use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// The packages that are read: where they lie below the folder given, and what they are called.
const PACKAGES: &[(&str, &str)] = &[
    ("api/*", "io.k8s.api."),
    ("apimachinery/pkg/apis/*", "io.k8s.apimachinery.pkg.apis."),
    (
        "apiextensions-apiserver/pkg/apis/*",
        "io.k8s.apiextensions-apiserver.pkg.apis.",
    ),
    ("kube-aggregator/pkg/apis/*", "io.k8s.kube-aggregator.pkg.apis."),
];

/// Versions of groups that are not served, or not by a type of their own.
const LEFT_OUT: &[&str] = &[
    "admission.v1",
    "apidiscovery.v2",
    "storagemigration.v1",
    "testapigroup.v1",
];

/// A field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    /// The name in JSON; empty if the fields of its type stand in the outer object.
    pub(crate) json: String,
    pub(crate) omit_empty: bool,
    pub(crate) shape: Shape,
    /// The number in the protobuf form.
    pub(crate) number: Option<u32>,
    pub(crate) patch_strategy: Option<String>,
    pub(crate) merge_key: Option<String>,
    pub(crate) markers: Markers,
}

/// What a type is declared as.
#[derive(Debug)]
pub(crate) enum Declared {
    Struct(Vec<Field>),
    /// Another name for a type, with the constants of it if it is an enumeration.
    Other(Shape, Option<Vec<String>>),
}

/// A declaration with the markers in its comment.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) declared: Declared,
    /// It has `kind` and `apiVersion`.
    pub(crate) is_kind: bool,
    pub(crate) markers: Markers,
}

/// The lines of a comment that begin with `+`, as name and value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Markers(Vec<(String, String)>);

impl Markers {
    pub(crate) fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn read(&mut self, comment: &str) {
        if let Some(marker) = comment.trim().strip_prefix('+') {
            let (name, value) = marker.split_once('=').unwrap_or((marker, ""));
            self.0.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

/// A type as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `string`, `int32`, …
    Word(String),
    /// A declared type, by the published name of its schema.
    Named(String),
    Pointer(Box<Self>),
    List(Box<Self>),
    Map(Box<Self>),
}

/// All declarations of all packages, by the published names of their schemas.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    pub(crate) types: BTreeMap<String, Declaration>,
    /// API group by the start of those names.
    pub(crate) groups: BTreeMap<String, String>,
}

impl Declarations {
    /// Reads the packages below a folder that has the modules `api`, `apimachinery`, `apiextensions-apiserver` and
    /// `kube-aggregator` of `k8s.io`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for (pattern, prefix) in PACKAGES {
            let parent = root.join(pattern.trim_end_matches("/*"));
            for group in entries(&parent)? {
                for version in ["v1", "v2"] {
                    let package = group.join(version);
                    let name = format!("{}.{version}", file_name(&group));
                    if package.join("register.go").exists() && !LEFT_OUT.contains(&name.as_str()) {
                        all.read_package(&package, &format!("{prefix}{name}."))?;
                    }
                }
            }
        }
        ensure!(
            !all.types.is_empty(),
            "no Go packages of Kubernetes' API below {}",
            root.display()
        );
        Ok(all)
    }

    fn read_package(&mut self, package: &Path, prefix: &str) -> anyhow::Result<()> {
        let mut constants: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in entries(package)? {
            let name = file_name(&path);
            if name == "register.go" {
                let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                if let Some(group) = text.lines().find_map(|line| line.strip_prefix("const GroupName = ")) {
                    self.groups
                        .insert(prefix.to_owned(), group.trim_matches('"').to_owned());
                }
            }
            if name.starts_with("types") && name.ends_with(".go") && !name.contains("swagger") && !name.contains("test")
            {
                let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let mut file = File::new(prefix, &text);
                file.read().with_context(|| format!("read {}", path.display()))?;
                self.types.extend(file.types);
                for (of, values) in file.constants {
                    constants.entry(of).or_default().extend(values);
                }
            }
        }
        for (name, values) in constants {
            let entry = self.types.get_mut(&name);
            if let Some(Declaration {
                declared: Declared::Other(_, found),
                markers,
                ..
            }) = entry
                && markers.get("enum").is_some()
            {
                *found = Some(values);
            }
        }
        Ok(())
    }

    /// What a type is in the end, other names for it undone.
    pub(crate) fn resolve<'a>(&'a self, shape: &'a Shape) -> &'a Shape {
        match shape {
            Shape::Named(name) => match self.types.get(name).map(|entry| &entry.declared) {
                Some(Declared::Other(shape, _)) => self.resolve(shape),
                _ => shape,
            },
            _ => shape,
        }
    }

    /// The constants of the enumeration that a type is.
    pub(crate) fn constants(&self, shape: &Shape) -> Option<&Vec<String>> {
        match shape {
            Shape::Pointer(inner) => self.constants(inner),
            Shape::Named(name) => match &self.types.get(name)?.declared {
                Declared::Other(_, constants) => constants.as_ref(),
                Declared::Struct(_) => None,
            },
            _ => None,
        }
    }
}

fn entries(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let found = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut found = found
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// One Go file on its way into declarations.
struct File<'a> {
    prefix: &'a str,
    text: &'a str,
    /// Published prefixes by the names under which the file imports packages.
    imports: BTreeMap<String, String>,
    types: BTreeMap<String, Declaration>,
    constants: BTreeMap<String, Vec<String>>,
}

impl<'a> File<'a> {
    fn new(prefix: &'a str, text: &'a str) -> Self {
        Self {
            prefix,
            text,
            imports: BTreeMap::new(),
            types: BTreeMap::new(),
            constants: BTreeMap::new(),
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let mut lines = self.text.lines();
        let mut markers = Markers::default();
        while let Some(line) = lines.next() {
            let line = line.trim();
            if let Some(comment) = line.strip_prefix("//") {
                markers.read(comment);
                continue;
            }
            if line.is_empty() {
                continue;
            }
            let own = std::mem::take(&mut markers);
            if line == "import (" || line == "const (" {
                for line in lines.by_ref().take_while(|line| *line != ")") {
                    self.import(line.trim());
                    self.constant(line.trim());
                }
            } else if let Some(import) = line.strip_prefix("import ") {
                self.import(import);
            } else if let Some(constant) = line.strip_prefix("const ") {
                self.constant(constant);
            } else if let Some(declared) = line.strip_prefix("type ") {
                let (name, rest) = declared.split_once(' ').context("a type without a form")?;
                let mut is_kind = false;
                let declared = match rest {
                    "struct {" => Declared::Struct(self.fields(&mut lines, &mut is_kind)?),
                    "struct{}" => Declared::Struct(Vec::new()),
                    _ if rest.starts_with("interface") || rest.starts_with("func") => continue,
                    _ => Declared::Other(self.shape(rest.trim_start_matches("= "))?, None),
                };
                let declaration = Declaration {
                    declared,
                    is_kind,
                    markers: own,
                };
                self.types.insert(format!("{}{name}", self.prefix), declaration);
            }
        }
        Ok(())
    }

    /// `alias "k8s.io/api/core/v1"`
    fn import(&mut self, line: &str) {
        let Some((alias, path)) = line.trim_end_matches('"').split_once('"') else {
            return;
        };
        let Some(path) = path.strip_prefix("k8s.io/") else {
            return;
        };
        let alias = match alias.trim() {
            "" => path.rsplit('/').next().unwrap_or_default(),
            alias => alias,
        };
        self.imports
            .insert(alias.to_owned(), format!("io.k8s.{}.", path.replace('/', ".")));
    }

    /// `Name Type = "value"`
    fn constant(&mut self, line: &str) {
        let Some((left, value)) = line.split_once('=') else {
            return;
        };
        let mut words = left.split_whitespace().skip(1);
        // `Name Type = "value"` or `Name = Type("value")`
        let (before, value) = value.trim().split_once('"').unwrap_or((value, ""));
        let of = words.next().or_else(|| before.strip_suffix('('));
        if let (Some(of), Some((value, _))) = (of, value.split_once('"')) {
            let of = format!("{}{of}", self.prefix);
            self.constants.entry(of).or_default().push(value.to_owned());
        }
    }

    fn fields(&self, lines: &mut std::str::Lines<'_>, is_kind: &mut bool) -> anyhow::Result<Vec<Field>> {
        let mut fields = Vec::new();
        let mut markers = Markers::default();
        for line in lines.by_ref().map(str::trim).take_while(|line| *line != "}") {
            if let Some(comment) = line.strip_prefix("//") {
                markers.read(comment);
                continue;
            }
            let Some((declared, tags)) = line.split_once('`') else {
                markers = Markers::default();
                continue;
            };
            let own = std::mem::take(&mut markers);
            let words: Vec<&str> = declared.split_whitespace().collect();
            let of = words.last().context("a field without a type")?;
            let json = tag(tags, "json").unwrap_or_default();
            let mut parts = json.split(',');
            let name = parts.next().unwrap_or_default();
            if of.ends_with("TypeMeta") {
                *is_kind = true;
                continue;
            }
            let number = tag(tags, "protobuf").and_then(|tag| tag.split(',').nth(1).and_then(|word| word.parse().ok()));
            fields.push(Field {
                json: name.to_owned(),
                omit_empty: parts.any(|word| word == "omitempty"),
                shape: self.shape(of).with_context(|| (*of).to_owned())?,
                number,
                patch_strategy: tag(tags, "patchStrategy").map(str::to_owned),
                merge_key: tag(tags, "patchMergeKey").map(str::to_owned),
                markers: own,
            });
        }
        Ok(fields)
    }

    fn shape(&self, text: &str) -> anyhow::Result<Shape> {
        let text = text.trim();
        if let Some(inner) = text.strip_prefix('*') {
            return Ok(Shape::Pointer(Box::new(self.shape(inner)?)));
        }
        if let Some(inner) = text.strip_prefix("[]") {
            return Ok(Shape::List(Box::new(self.shape(inner)?)));
        }
        if let Some(inner) = text.strip_prefix("map[") {
            let (_, value) = inner.split_once(']').context("a map without values")?;
            return Ok(Shape::Map(Box::new(self.shape(value)?)));
        }
        Ok(match text.split_once('.') {
            // Text with a name of its own.
            Some(("types", _)) => Shape::Word("string".to_owned()),
            Some((package, name)) => {
                let prefix = self
                    .imports
                    .get(package)
                    .with_context(|| format!("{package} is not imported"))?;
                Shape::Named(format!("{prefix}{name}"))
            }
            None if text.starts_with(char::is_lowercase) => Shape::Word(text.to_owned()),
            None => Shape::Named(format!("{}{text}", self.prefix)),
        })
    }
}

/// The content of one tag, `name:"content"`.
fn tag<'a>(tags: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tags.split_once(&format!("{name}:\""))?;
    rest.split_once('"').map(|(content, _)| content)
}
