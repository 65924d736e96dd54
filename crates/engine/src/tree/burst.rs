//! Finds the few candidates among wildcard filters of rare shapes.
//!
//! A burst trie: up to eight filters share a bucket, and a bucket that overflows bursts into one node for each next level; one that falls to half becomes a bucket again.
//! So nodes are never more than a small multiple of the bytes of the filters, however the filters are chosen, and a branch is followed only where it exists.
//! Levels are told apart by their keyed hash alone: the caller compares the text of each filter that [`BurstTrie::candidates`] names.

use std::cell::Cell;
use std::num::NonZeroU64;

use crate::hash::{HashKey, Levels, MAX_HASHED_LEVELS, mix};
use crate::slab::Slab;
use crate::sorted::SortedList;
use crate::table::IdTable;

const BUCKET: usize = 8;
const NONE: u32 = u32::MAX;

/// A step down: the hash of a literal level, or `None` for `+`; never 0, which saves the bytes to tell.
type Edge = Option<NonZeroU64>;

/// Filters by id, found by levels.
#[derive(Debug, Default)]
pub(crate) struct BurstTrie {
    nodes: Slab<Node>,
    edges: IdTable,
    root: Option<u32>,
    visited: Cell<u64>,
}

#[derive(Debug)]
struct Node {
    parent: u32,
    depth: u32,
    edge: Edge,
    /// Filters in this node and all below.
    count: u32,
    /// Whether levels below have nodes of their own; else this is a bucket.
    inner: bool,
    /// The filters of a bucket, or those that end at an inner node.
    filters: SortedList<u32>,
    plus: u32,
    first_child: u32,
    next: u32,
    previous: u32,
}

impl BurstTrie {
    /// Returns the way to a filter: its levels up to `#` and up to a depth of 128.
    pub(crate) fn path(key: &HashKey, filter: &str) -> Vec<Edge> {
        let levels = filter.split('/').take_while(|&level| level != "#").take(MAX_HASHED_LEVELS).enumerate();
        levels.map(|(position, level)| if level == "+" { None } else { Some(edge(key.level(position, level))) }).collect()
    }

    /// Adds a filter; `path_of` returns the path of any filter that was added before.
    pub(crate) fn insert(&mut self, filter: u32, path: &[Edge], path_of: impl Fn(u32) -> Vec<Edge>) {
        let mut at = match self.root {
            Some(root) => root,
            None => *self.root.insert(self.nodes.insert(Node::new(NONE, None, 0))),
        };
        loop {
            let node = self.node_mut(at);
            node.count += 1;
            let depth = node.depth as usize;
            match path.get(depth) {
                Some(&edge) if node.inner => at = self.child(at, edge).unwrap_or_else(|| self.add_child(at, edge)),
                _ => {
                    node.filters.insert(filter);
                    if !node.inner && node.count as usize > BUCKET && depth < MAX_HASHED_LEVELS {
                        let filters = std::mem::take(&mut node.filters);
                        let with_path = |other| if other == filter { path.to_vec() } else { path_of(other) };
                        self.distribute(at, filters.iter().map(|other| (other, with_path(other))).collect());
                    }
                    return;
                }
            }
        }
    }

    /// Removes a filter that was added with `path`.
    pub(crate) fn remove(&mut self, filter: u32, path: &[Edge]) {
        let Some(mut at) = self.root else { return };
        let mut collapse = None;
        loop {
            let node = self.node_mut(at);
            node.count -= 1;
            if node.inner && node.count as usize <= BUCKET / 2 && collapse.is_none() {
                collapse = Some(at);
            }
            let step = path.get(node.depth as usize).filter(|_| node.inner).copied();
            let Some(edge) = step else { break };
            at = self.child(at, edge).expect("a filter that was added lies at the end of its path");
        }
        let node = self.node_mut(at);
        node.filters.remove(filter);
        if let Some(top) = collapse {
            let mut filters = SortedList::Empty;
            self.gather(top, &mut filters);
            let node = self.node_mut(top);
            node.inner = false;
            node.filters = filters;
        } else if self.node(at).count == 0 && Some(at) != self.root {
            self.unlink(at);
        }
    }

    /// Calls `found` with the few filters that can match; for a `reserved` name `+` is not followed at the first level.
    pub(crate) fn candidates(&self, topic: &Levels, reserved: bool, found: &mut impl FnMut(u32)) {
        if let Some(root) = self.root {
            self.visit(root, topic, reserved, found);
        }
    }

    /// Returns the number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns how many nodes were looked at for topics, ever.
    pub(crate) fn visited(&self) -> u64 {
        self.visited.get()
    }

    /// Recurses at most 128 deep, as paths end there.
    fn visit(&self, at: u32, topic: &Levels, reserved: bool, found: &mut impl FnMut(u32)) {
        let node = self.node(at);
        self.visited.set(self.visited.get() + 1);
        node.filters.iter().for_each(&mut *found);
        let depth = node.depth as usize;
        if !node.inner || depth >= topic.count().min(MAX_HASHED_LEVELS) {
            return;
        }
        if node.plus != NONE && !(reserved && depth == 0) {
            self.visit(node.plus, topic, reserved, found);
        }
        if let Some(child) = self.child(at, Some(edge(topic.level(depth)))) {
            self.visit(child, topic, reserved, found);
        }
    }

    /// Makes the node an inner one while it has too many filters; recurses at most 128 deep.
    fn distribute(&mut self, at: u32, filters: Vec<(u32, Vec<Edge>)>) {
        let node = self.node_mut(at);
        node.count = u32::try_from(filters.len()).expect("ids of filters have 32 bits");
        let depth = node.depth as usize;
        if filters.len() <= BUCKET || depth == MAX_HASHED_LEVELS {
            filters.iter().for_each(|&(filter, _)| {
                node.filters.insert(filter);
            });
            return;
        }
        node.inner = true;
        let (mut below, here): (Vec<_>, Vec<_>) = filters.into_iter().partition(|(_, path)| path.len() > depth);
        here.iter().for_each(|&(filter, _)| {
            node.filters.insert(filter);
        });
        while let Some(&edge) = below.first().map(|(_, path)| &path[depth]) {
            let (group, rest) = below.into_iter().partition(|(_, path)| path[depth] == edge);
            let child = self.add_child(at, edge);
            self.distribute(child, group);
            below = rest;
        }
    }

    /// Empties the nodes below `at` into `filters`; recurses at most 128 deep.
    fn gather(&mut self, at: u32, filters: &mut SortedList<u32>) {
        for filter in std::mem::take(&mut self.node_mut(at).filters).iter() {
            filters.insert(filter);
        }
        while self.node(at).first_child != NONE {
            let child = self.node(at).first_child;
            self.gather(child, filters);
            self.unlink(child);
        }
    }

    fn child(&self, at: u32, edge: Edge) -> Option<u32> {
        let Some(level) = edge else {
            let plus = self.node(at).plus;
            return (plus != NONE).then_some(plus);
        };
        self.edges.find(edge_hash(at, level), |child| {
            let child = self.node(child);
            child.parent == at && child.edge == edge
        })
    }

    fn add_child(&mut self, at: u32, edge: Edge) -> u32 {
        let parent = self.node(at);
        let (depth, sibling) = (parent.depth + 1, parent.first_child);
        let child = self.nodes.insert(Node { next: sibling, ..Node::new(at, edge, depth) });
        if sibling != NONE {
            self.node_mut(sibling).previous = child;
        }
        let parent = self.node_mut(at);
        parent.first_child = child;
        match edge {
            None => parent.plus = child,
            Some(level) => self.edges.insert(edge_hash(at, level), child),
        }
        child
    }

    fn unlink(&mut self, child: u32) {
        let node = self.nodes.remove(child).expect("only nodes that exist are unlinked");
        match node.edge {
            None => self.node_mut(node.parent).plus = NONE,
            Some(level) => {
                self.edges.remove(edge_hash(node.parent, level), child);
            }
        }
        if node.previous == NONE {
            self.node_mut(node.parent).first_child = node.next;
        } else {
            self.node_mut(node.previous).next = node.next;
        }
        if node.next != NONE {
            self.node_mut(node.next).previous = node.previous;
        }
    }

    fn node(&self, id: u32) -> &Node {
        self.nodes.get(id).expect("nodes are removed only together with what leads to them")
    }

    fn node_mut(&mut self, id: u32) -> &mut Node {
        self.nodes.get_mut(id).expect("nodes are removed only together with what leads to them")
    }
}

impl Node {
    fn new(parent: u32, edge: Edge, depth: u32) -> Self {
        let filters = SortedList::Empty;
        Self { parent, edge, depth, count: 0, inner: false, filters, plus: NONE, first_child: NONE, next: NONE, previous: NONE }
    }
}

/// Levels whose hashes differ in the lowest bit alone share a way, which their text tells apart.
fn edge(level: u64) -> NonZeroU64 {
    NonZeroU64::MIN | level
}

/// The level's hash is keyed already; the parent only has to spread.
fn edge_hash(parent: u32, level: NonZeroU64) -> u64 {
    mix(level.get().wrapping_add(u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}
