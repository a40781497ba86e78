//! The functions there are, and what they take and give.

use crate::access;
use crate::types::Type;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One way to call a function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signature {
    pub(crate) target: Option<Type>,
    pub(crate) arguments: Vec<Type>,
    pub(crate) result: Type,
}

/// One signature a line: `[target.]name(arguments) result`. A single capital letter is any type, the same everywhere in
/// a line.
const TABLE: &str = "
_?_:_(bool A A) A
_&&_(bool bool) bool
_||_(bool bool) bool
!_(bool) bool
-_(int) int
-_(double) double
_==_(A A) bool
_!=_(A A) bool
_<_(bool bool) bool
_<_(int int) bool
_<_(int uint) bool
_<_(int double) bool
_<_(uint uint) bool
_<_(uint int) bool
_<_(uint double) bool
_<_(double double) bool
_<_(double int) bool
_<_(double uint) bool
_<_(string string) bool
_<_(bytes bytes) bool
_<_(timestamp timestamp) bool
_<_(duration duration) bool
_+_(int int) int
_+_(uint uint) uint
_+_(double double) double
_+_(string string) string
_+_(bytes bytes) bytes
_+_(list(A) list(A)) list(A)
_+_(timestamp duration) timestamp
_+_(duration timestamp) timestamp
_+_(duration duration) duration
_-_(int int) int
_-_(uint uint) uint
_-_(double double) double
_-_(timestamp timestamp) duration
_-_(timestamp duration) timestamp
_-_(duration duration) duration
_*_(int int) int
_*_(uint uint) uint
_*_(double double) double
_/_(int int) int
_/_(uint uint) uint
_/_(double double) double
_%_(int int) int
_%_(uint uint) uint
@in(A list(A)) bool
@in(A map(A,B)) bool
_[_](list(A) int) A
_[_](map(A,B) A) B
_[_](optional(list(A)) int) optional(A)
_[_](optional(map(A,B)) A) optional(B)
_[?_](list(A) int) optional(A)
_[?_](map(A,B) A) optional(B)
_[?_](optional(list(A)) int) optional(A)
_[?_](optional(map(A,B)) A) optional(B)
size(string) int
size(bytes) int
size(list(A)) int
size(map(A,B)) int
string.size() int
bytes.size() int
list(A).size() int
map(A,B).size() int
int(int) int
int(uint) int
int(double) int
int(string) int
int(timestamp) int
int(duration) int
uint(uint) uint
uint(int) uint
uint(double) uint
uint(string) uint
double(double) double
double(int) double
double(uint) double
double(string) double
string(string) string
string(int) string
string(uint) string
string(double) string
string(bool) string
string(bytes) string
string(timestamp) string
string(duration) string
string(net.IP) string
string(net.CIDR) string
string(kubernetes.Quantity) string
bytes(bytes) bytes
bytes(string) bytes
bool(bool) bool
bool(string) bool
timestamp(timestamp) timestamp
timestamp(string) timestamp
timestamp(int) timestamp
duration(duration) duration
duration(string) duration
type(A) type
dyn(A) dyn
string.contains(string) bool
string.startsWith(string) bool
string.endsWith(string) bool
string.matches(string) bool
matches(string string) bool
string.find(string) string
string.findAll(string) list(string)
string.findAll(string int) list(string)
string.charAt(int) string
string.indexOf(string) int
string.indexOf(string int) int
string.lastIndexOf(string) int
string.lastIndexOf(string int) int
string.lowerAscii() string
string.upperAscii() string
string.replace(string string) string
string.replace(string string int) string
string.split(string) list(string)
string.split(string int) list(string)
string.substring(int) string
string.substring(int int) string
string.trim() string
string.reverse() string
string.format(list(dyn)) string
strings.quote(string) string
list(string).join() string
list(string).join(string) string
timestamp.getFullYear() int
timestamp.getMonth() int
timestamp.getDate() int
timestamp.getDayOfMonth() int
timestamp.getDayOfWeek() int
timestamp.getDayOfYear() int
timestamp.getHours() int
timestamp.getMinutes() int
timestamp.getSeconds() int
timestamp.getMilliseconds() int
timestamp.getFullYear(string) int
timestamp.getMonth(string) int
timestamp.getDate(string) int
timestamp.getDayOfMonth(string) int
timestamp.getDayOfWeek(string) int
timestamp.getDayOfYear(string) int
timestamp.getHours(string) int
timestamp.getMinutes(string) int
timestamp.getSeconds(string) int
timestamp.getMilliseconds(string) int
duration.getHours() int
duration.getMinutes() int
duration.getSeconds() int
duration.getMilliseconds() int
list(A).isSorted() bool
list(int).sum() int
list(uint).sum() uint
list(double).sum() double
list(duration).sum() duration
list(A).min() A
list(A).max() A
list(A).indexOf(A) int
list(A).lastIndexOf(A) int
list(A).slice(int int) list(A)
list(A).distinct() list(A)
list(A).reverse() list(A)
list(A).sort() list(A)
list(A).flatten() list(dyn)
lists.range(int) list(int)
sets.contains(list(A) list(A)) bool
sets.equivalent(list(A) list(A)) bool
sets.intersects(list(A) list(A)) bool
math.greatest(A A) A
math.least(A A) A
optional.none() optional(A)
optional.of(A) optional(A)
optional.ofNonZeroValue(A) optional(A)
optional(A).hasValue() bool
optional(A).value() A
optional(A).or(optional(A)) optional(A)
optional(A).orValue(A) A
base64.encode(bytes) string
base64.decode(string) bytes
quantity(string) kubernetes.Quantity
isQuantity(string) bool
kubernetes.Quantity.isInteger() bool
kubernetes.Quantity.asInteger() int
kubernetes.Quantity.asApproximateFloat() double
kubernetes.Quantity.sign() int
kubernetes.Quantity.add(kubernetes.Quantity) kubernetes.Quantity
kubernetes.Quantity.add(int) kubernetes.Quantity
kubernetes.Quantity.sub(kubernetes.Quantity) kubernetes.Quantity
kubernetes.Quantity.sub(int) kubernetes.Quantity
kubernetes.Quantity.isLessThan(kubernetes.Quantity) bool
kubernetes.Quantity.isGreaterThan(kubernetes.Quantity) bool
kubernetes.Quantity.compareTo(kubernetes.Quantity) int
url(string) kubernetes.URL
isURL(string) bool
kubernetes.URL.getScheme() string
kubernetes.URL.getHost() string
kubernetes.URL.getHostname() string
kubernetes.URL.getPort() string
kubernetes.URL.getEscapedPath() string
kubernetes.URL.getQuery() map(string,list(string))
ip(string) net.IP
isIP(string) bool
ip.isCanonical(string) bool
net.IP.family() int
net.IP.isUnspecified() bool
net.IP.isLoopback() bool
net.IP.isLinkLocalMulticast() bool
net.IP.isLinkLocalUnicast() bool
net.IP.isGlobalUnicast() bool
cidr(string) net.CIDR
isCIDR(string) bool
net.CIDR.containsIP(string) bool
net.CIDR.containsIP(net.IP) bool
net.CIDR.containsCIDR(string) bool
net.CIDR.containsCIDR(net.CIDR) bool
net.CIDR.ip() net.IP
net.CIDR.masked() net.CIDR
net.CIDR.prefixLength() int
semver(string) kubernetes.Semver
isSemver(string) bool
kubernetes.Semver.major() int
kubernetes.Semver.minor() int
kubernetes.Semver.patch() int
kubernetes.Semver.isLessThan(kubernetes.Semver) bool
kubernetes.Semver.isGreaterThan(kubernetes.Semver) bool
kubernetes.Semver.compareTo(kubernetes.Semver) int
kubernetes.authorization.Authorizer.path(string) kubernetes.authorization.PathCheck
kubernetes.authorization.Authorizer.group(string) kubernetes.authorization.GroupCheck
kubernetes.authorization.Authorizer.serviceAccount(string string) kubernetes.authorization.Authorizer
kubernetes.authorization.PathCheck.check(string) kubernetes.authorization.Decision
kubernetes.authorization.GroupCheck.resource(string) kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.subresource(string) kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.namespace(string) kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.name(string) kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.fieldSelector(string) kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.labelSelector(string) kubernetes.authorization.ResourceCheck
kubernetes.authorization.ResourceCheck.check(string) kubernetes.authorization.Decision
kubernetes.authorization.Decision.allowed() bool
kubernetes.authorization.Decision.reason() string
kubernetes.authorization.Decision.errored() bool
kubernetes.authorization.Decision.error() string
jsonpatch.escapeKey(string) string
format.named(string) optional(kubernetes.NamedFormat)
kubernetes.NamedFormat.validate(string) optional(list(string))
";

const FORMATS: [&str; 14] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
    "duration",
];

static FUNCTIONS: LazyLock<BTreeMap<String, Vec<Signature>>> = LazyLock::new(|| {
    let mut functions: BTreeMap<String, Vec<Signature>> = BTreeMap::new();
    let mut add = |name: String, signature| functions.entry(name).or_default().push(signature);
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let (name, signature) = read(line);
        // All orders are compared alike.
        if name == "_<_" {
            for other in ["_<=_", "_>_", "_>=_"] {
                add(other.to_owned(), signature.clone());
            }
        }
        add(name, signature);
    }
    for name in FORMATS {
        let result = Type::Opaque("kubernetes.NamedFormat");
        add(
            format!("format.{name}"),
            Signature {
                target: None,
                arguments: Vec::new(),
                result,
            },
        );
    }
    functions
});

/// The ways to call a function.
pub(crate) fn of(name: &str) -> &'static [Signature] {
    FUNCTIONS.get(name).map(Vec::as_slice).unwrap_or_default()
}

/// Whether there is a function of this full name that is no method.
pub(crate) fn is_function(name: &str) -> bool {
    of(name).iter().any(|signature| signature.target.is_none())
}

/// The names of formats of strings, as `format.NAME()` has them.
pub(crate) fn format_name(name: &str) -> Option<&'static str> {
    FORMATS.into_iter().find(|known| *known == name)
}

fn read(line: &str) -> (String, Signature) {
    let operator = line.starts_with(['_', '!', '-', '@']);
    // The arguments' bracket is the last one at depth zero before the result.
    let (mut depth, mut start, mut open, mut close) = (0usize, 0, 0, 0);
    for (at, c) in line.char_indices() {
        match c {
            '(' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            ')' => {
                depth -= 1;
                if depth == 0 && close == 0 && line[at + 1..].starts_with(' ') {
                    (open, close) = (start, at);
                }
            }
            _ => {}
        }
    }
    let head = &line[..open];
    let (target, name) = match head.rsplit_once('.') {
        Some((target, name)) if !operator && is_type(target) => (Some(read_type(target)), name),
        _ => (None, head),
    };
    let arguments = line[open + 1..close].split_whitespace().map(read_type).collect();
    let result = read_type(line[close + 1..].trim());
    (
        name.to_owned(),
        Signature {
            target,
            arguments,
            result,
        },
    )
}

fn is_type(text: &str) -> bool {
    !matches!(
        text,
        "strings" | "lists" | "sets" | "math" | "optional" | "base64" | "format" | "ip" | "jsonpatch"
    )
}

fn read_type(text: &str) -> Type {
    if let Some(inner) = text.strip_prefix("list(").and_then(|text| text.strip_suffix(')')) {
        return Type::list(read_type(inner));
    }
    if let Some(inner) = text.strip_prefix("optional(").and_then(|text| text.strip_suffix(')')) {
        return Type::Optional(Box::new(read_type(inner)));
    }
    if let Some(inner) = text.strip_prefix("map(").and_then(|text| text.strip_suffix(')')) {
        let (key, value) = inner.split_once(',').unwrap_or((inner, "dyn"));
        return Type::map(read_type(key), read_type(value));
    }
    match text {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::TEXT,
        "bytes" => Type::Bytes(crate::types::SIZE_MAX),
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
        "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
        "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
        "kubernetes.NamedFormat" => Type::Opaque("kubernetes.NamedFormat"),
        "net.IP" => Type::Opaque("net.IP"),
        "net.CIDR" => Type::Opaque("net.CIDR"),
        _ if text.contains('.') => {
            let known = access::TYPES.into_iter().find(|known| *known == text);
            Type::Opaque(known.expect("the table names known types only"))
        }
        _ => Type::Parameter(text.chars().next().unwrap_or('A')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read() {
        let (name, signature) = read("list(string).join(string) string");
        assert_eq!(name, "join");
        assert_eq!(signature.target, Some(Type::list(Type::TEXT)));
        assert_eq!(signature.arguments, [Type::TEXT]);
        let (name, signature) = read("_[_](map(A,B) A) B");
        assert_eq!((name.as_str(), signature.arguments.len()), ("_[_]", 2));
        assert_eq!(signature.result, Type::Parameter('B'));
        let (name, signature) = read("kubernetes.Quantity.add(int) kubernetes.Quantity");
        assert_eq!(
            (name.as_str(), signature.target),
            ("add", Some(Type::Opaque("kubernetes.Quantity")))
        );
        let (name, signature) = read("list(A).size() int");
        assert_eq!((name.as_str(), signature.arguments.len()), ("size", 0));
        assert!(is_function("optional.none") && is_function("ip.isCanonical") && !is_function("size.of"));
    }
}
