//! Guests without a compiler: a core module in text form whose answers stand in its memory, made a component by `wit-component`.
//!
//! Every function of the contract has a body that a test may replace, so one deviation from a good plugin is one line.

use std::{fmt::Write as _, path::Path};

use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where answers are laid out; below it is free for the tests.
const IMAGE: u32 = 4096;
/// Where the allocator of the guest begins at the earliest, and how many pages it has.
const HEAP: u32 = 256 << 10;
const PAGES: u32 = 16;

/// One edit, as `wit/types.wit` has it.
#[derive(Clone)]
pub enum Edit {
    Set(String, Vec<u8>),
    /// A name that is no UTF-8.
    SetRaw(Vec<u8>),
    Append(String, Vec<u8>),
    Remove(String),
    SetKnown(u32, Vec<u8>),
    AppendKnown(u32, Vec<u8>),
    RemoveKnown(u32),
}

pub fn set(name: &str, value: impl AsRef<[u8]>) -> Edit {
    Edit::Set(name.into(), value.as_ref().to_vec())
}

/// What a hook answers.
#[derive(Clone)]
pub enum Answer {
    Proceed(Vec<Edit>, u64),
    Reply(u16, Vec<(String, Vec<u8>)>, Vec<u8>),
    Hold,
    /// Instructions in place of an answer.
    Code(String),
}

/// What a hook does in place of its usual answer when the message has `x-fault: !`. The host's own samples have other values.
pub const TRIGGER: (&str, &str) = ("x-fault", "!");

/// A plan.
#[derive(Clone, Default)]
pub struct Plan {
    pub hooks: u8,
    pub request_reads: Vec<String>,
    pub response_reads: Vec<String>,
    pub carried_reads: Vec<String>,
    pub request_writes: Vec<String>,
    pub response_writes: Vec<String>,
}

pub const REQUEST_HEADERS: u8 = 1;
pub const RESPONSE_HEADERS: u8 = 1 << 3;

/// A plugin to be built.
#[derive(Clone)]
pub struct Guest {
    pub name: String,
    pub version: String,
    pub schema: String,
    pub plan: Plan,
    /// Problems that `configure` answers in place of the plan.
    pub problems: Vec<(String, String)>,
    pub self_test: Result<(), String>,
    pub on_request: Answer,
    pub on_response: Answer,
    /// See [`TRIGGER`].
    pub on_trigger: Option<Answer>,
    /// Instructions that run in front of the functions' own.
    pub describe: String,
    pub configure: String,
    pub self_test_code: String,
    /// Core imports, each a whole WAT field.
    pub imports: String,
    /// Further fields of the module.
    pub fields: String,
    pub pages: u32,
    pub world: &'static str,
}

impl Default for Guest {
    /// Declares both hooks, sets `x-request` and `x-response` to `1`.
    fn default() -> Self {
        let names = |name: &str| vec![name.to_string()];
        Self {
            name: "test".into(),
            version: "1.0.0".into(),
            schema: "{}".into(),
            plan: Plan {
                hooks: REQUEST_HEADERS | RESPONSE_HEADERS,
                request_writes: names("x-request"),
                response_writes: names("x-response"),
                ..Plan::default()
            },
            problems: vec![],
            self_test: Ok(()),
            on_request: Answer::Proceed(vec![Edit::SetKnown(0, b"1".to_vec())], 7),
            on_response: Answer::Proceed(vec![Edit::SetKnown(0, b"1".to_vec())], 0),
            on_trigger: None,
            describe: String::new(),
            configure: String::new(),
            self_test_code: String::new(),
            imports: String::new(),
            fields: String::new(),
            pages: PAGES,
            world: "policy",
        }
    }
}

/// Bytes of the guest's memory, laid out as the canonical ABI wants them.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn alloc(&mut self, bytes: &[u8]) -> u32 {
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let at = IMAGE + u32::try_from(self.bytes.len()).unwrap();
        self.bytes.extend_from_slice(bytes);
        at
    }

    fn slice(&mut self, bytes: &[u8]) -> Vec<u8> {
        let at = self.alloc(bytes);
        words(&[at, u32::try_from(bytes.len()).unwrap()])
    }

    fn list(&mut self, items: &[Vec<u8>]) -> Vec<u8> {
        let at = self.alloc(&items.concat());
        words(&[at, u32::try_from(items.len()).unwrap()])
    }

    fn strings(&mut self, items: &[String]) -> Vec<u8> {
        let items: Vec<_> = items.iter().map(|item| self.slice(item.as_bytes())).collect();
        self.list(&items)
    }

    fn edit(&mut self, edit: &Edit) -> Vec<u8> {
        let (case, payload) = match edit {
            Edit::Set(name, value) => (0, [self.slice(name.as_bytes()), self.slice(value)].concat()),
            Edit::SetRaw(name) => (0, [self.slice(name), self.slice(b"1")].concat()),
            Edit::Append(name, value) => (1, [self.slice(name.as_bytes()), self.slice(value)].concat()),
            Edit::Remove(name) => (2, self.slice(name.as_bytes())),
            Edit::SetKnown(index, value) => (3, [words(&[*index]), self.slice(value)].concat()),
            Edit::AppendKnown(index, value) => (4, [words(&[*index]), self.slice(value)].concat()),
            Edit::RemoveKnown(index) => (5, words(&[*index])),
        };
        let mut bytes = [words(&[case]), payload].concat();
        bytes.resize(20, 0);
        bytes
    }

    /// Instructions that answer a verdict.
    fn verdict(&mut self, answer: &Answer) -> String {
        let bytes = match answer {
            Answer::Code(code) => return code.clone(),
            Answer::Proceed(edits, token) => {
                let edits: Vec<_> = edits.iter().map(|edit| self.edit(edit)).collect();
                [words(&[0, 0]), self.list(&edits), token.to_le_bytes().to_vec()].concat()
            }
            Answer::Reply(status, headers, body) => {
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| [self.slice(name.as_bytes()), self.slice(value)].concat())
                    .collect();
                [words(&[1, 0, u32::from(*status)]), self.list(&headers), self.slice(body)].concat()
            }
            Answer::Hold => words(&[2, 0]),
        };
        let mut bytes = bytes;
        bytes.resize(32, 0);
        format!("i32.const {}", self.alloc(&bytes))
    }

    fn manifest(&mut self, guest: &Guest) -> u32 {
        let strings =
            [&guest.name, &guest.version, "a guest for tests", &guest.schema].map(|text| self.slice(text.as_bytes()));
        self.alloc(&strings.concat())
    }

    fn configured(&mut self, guest: &Guest) -> u32 {
        if !guest.problems.is_empty() {
            let problems: Vec<_> = guest
                .problems
                .iter()
                .map(|(pointer, message)| [self.slice(pointer.as_bytes()), self.slice(message.as_bytes())].concat())
                .collect();
            let answer = [words(&[1]), self.list(&problems), vec![0; 52]].concat();
            return self.alloc(&answer);
        }
        let plan = &guest.plan;
        let lists = [
            &plan.request_reads,
            &plan.response_reads,
            &plan.carried_reads,
            &plan.request_writes,
            &plan.response_writes,
        ]
        .map(|names| self.strings(names));
        let answer = [words(&[0, u32::from(plan.hooks)]), lists.concat(), vec![0; 16]].concat();
        self.alloc(&answer)
    }

    fn self_test(&mut self, result: &Result<(), String>) -> u32 {
        let answer = match result {
            Ok(()) => vec![0; 12],
            Err(text) => [words(&[1]), self.slice(text.as_bytes())].concat(),
        };
        self.alloc(&answer)
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Guest {
    /// A good plugin whose hooks answer so when they meet [`TRIGGER`].
    pub fn faulty(answer: Answer) -> Self {
        let mut guest = Self::default();
        guest.plan.request_reads = vec![TRIGGER.0.into()];
        guest.plan.response_reads = vec![TRIGGER.0.into()];
        Self { on_trigger: Some(answer), ..guest }
    }

    /// [`Guest::faulty`] by instructions.
    pub fn faulty_code(code: &str) -> Self {
        Self::faulty(Answer::Code(format!("{code} i32.const 0")))
    }

    /// The core module as text.
    fn wat(&self) -> String {
        let mut image = Image { bytes: Vec::new() };
        let manifest = image.manifest(self);
        let configured = image.configured(self);
        let self_test = image.self_test(&self.self_test);
        let on_request = image.verdict(&self.on_request);
        let on_response = image.verdict(&self.on_response);
        let trigger = self.on_trigger.as_ref().map_or_else(String::new, |answer| {
            let answer = image.verdict(answer);
            // The first field is `one` (1), and its value begins with an exclamation mark.
            format!(
                "(if (i32.eq (i32.load8_u (local.get $fields)) (i32.const 1)) (then
                    (if (i32.eq (i32.load8_u (i32.load offset=4 (local.get $fields))) (i32.const 33)) (then
                        {answer} return))))"
            )
        });
        let data: String = image.bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "\\{byte:02x}");
            text
        });
        // Behind whatever it answers.
        let heap = HEAP.max(IMAGE + u32::try_from(image.bytes.len()).unwrap());
        let Self { imports, fields, describe, configure, self_test_code, pages, .. } = self;
        format!(
            r#"(module
            {imports}
            (memory (export "memory") {pages})
            (global $heap (mut i32) (i32.const {heap}))
            (data (i32.const {IMAGE}) "{data}")
            (func (export "cabi_realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                (global.set $heap (i32.add (local.get $at) (local.get $size)))
                (local.get $at))
            (func $reset (param i32) (global.set $heap (i32.const {heap})))
            (export "cabi_post_penstock:plugin/header-policy@0.1.0#on-request" (func $reset))
            (export "cabi_post_penstock:plugin/header-policy@0.1.0#on-response" (func $reset))
            (func (export "penstock:plugin/lifecycle@0.1.0#describe") (result i32) {describe} i32.const {manifest})
            (func (export "penstock:plugin/lifecycle@0.1.0#configure") (param $ptr i32) (param $len i32) (result i32)
                {configure} i32.const {configured})
            (func (export "penstock:plugin/lifecycle@0.1.0#self-test") (result i32) {self_test_code} i32.const {self_test})
            (func (export "penstock:plugin/header-policy@0.1.0#on-request") (param $fields i32) (param $len i32) (result i32)
                {trigger} {on_request})
            (func (export "penstock:plugin/header-policy@0.1.0#on-response")
                (param $token i64) (param $status i32) (param $fields i32) (param $len i32) (result i32)
                {trigger} {on_response})
            {fields})"#
        )
    }

    /// The core module, not yet a component.
    pub fn module(&self) -> Vec<u8> {
        let mut module = wat::parse_str(self.wat()).unwrap_or_else(|error| panic!("{error}"));
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).unwrap();
        let world = resolve.select_world(&[package], Some(self.world)).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    /// The component, and behind it core instances of a module of its own, which nothing refers to.
    pub fn build_with(&self, instances: u8, wat: &str) -> Vec<u8> {
        let mut component = self.build();
        let modules =
            Parser::new(0).parse_all(&component).filter(|part| matches!(part, Ok(Payload::ModuleSection { .. })));
        let index = u8::try_from(modules.count()).unwrap();
        let module = wat::parse_str(wat).unwrap();
        let list: Vec<u8> = (0..instances).flat_map(|_| [0, index, 0]).collect();
        // Sections: a core module, and a list of core instances. Their lengths are LEB128, here of one byte.
        assert!(module.len() < 128 && list.len() < 127 && instances < 128);
        component.extend([&[1, u8::try_from(module.len()).unwrap()][..], &module].concat());
        component.extend([&[2, u8::try_from(list.len() + 1).unwrap(), instances][..], &list].concat());
        component
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        ComponentEncoder::default().module(&self.module()).unwrap().validate(true).encode().unwrap()
    }
}
