//! Owners by token: a table of slots, each with a generation.
//!
//! ```text
//!   token = | generation: 32 | index: 32 |
//! ```
//!
//! Removing an owner raises the generation of its slot, so an old token never finds a new owner.

/// Identifies a registration for ever: slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// The reactor's own waker; no registry gives it out.
    pub const WAKER: Self = Self { index: u32::MAX, generation: u32::MAX };

    /// Which slot it is: the next registration of a connection that ends takes its place.
    pub const fn slot(self) -> u32 {
        self.index
    }

    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    pub const fn from_u64(value: u64) -> Self {
        Self { index: value as u32, generation: (value >> 32) as u32 }
    }
}

struct Slot<T> {
    generation: u32,
    owner: Option<T>,
}

/// See the module's documentation.
pub struct Registry<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    length: usize,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Registry<T> {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), length: 0 }
    }

    /// # Panics
    /// With 2^32 - 1 owners at once, more than a process can have descriptors.
    pub fn insert(&mut self, owner: T) -> Token {
        self.length += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.owner = Some(owner);
            return Token { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).ok().filter(|&index| index != u32::MAX);
        let index = index.expect("fewer owners than 32 bits can count");
        self.slots.push(Slot { generation: 0, owner: Some(owner) });
        Token { index, generation: 0 }
    }

    fn slot(&self, token: Token) -> Option<&Slot<T>> {
        self.slots.get(token.index as usize).filter(|slot| slot.generation == token.generation)
    }

    pub fn get(&self, token: Token) -> Option<&T> {
        self.slot(token)?.owner.as_ref()
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation == token.generation {
            slot.owner.as_mut()
        } else {
            None
        }
    }

    pub fn remove(&mut self, token: Token) -> Option<T> {
        let slot = self.slots.get_mut(token.index as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        let owner = slot.owner.take()?;
        self.length -= 1;
        // A slot whose generations are used up is never used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(token.index);
        }
        Some(owner)
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let token = Token { index: index as u32, generation: slot.generation };
            slot.owner.as_ref().map(|owner| (token, owner))
        })
    }

    /// Removes all owners; their tokens stay stale.
    pub fn clear(&mut self) -> Vec<T> {
        let tokens: Vec<Token> = self.iter().map(|(token, _)| token).collect();
        tokens.into_iter().filter_map(|token| self.remove(token)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_token_finds_nobody() {
        let mut registry = Registry::new();
        let first = registry.insert("first");
        assert_eq!(registry.remove(first), Some("first"));
        let second = registry.insert("second");
        assert_eq!(first.index, second.index);
        assert_ne!(first, second);
        assert_eq!(registry.get(first), None);
        assert_eq!(registry.get_mut(first), None);
        assert_eq!(registry.remove(first), None);
        assert_eq!(registry.get(second), Some(&"second"));
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn tokens_survive_the_way_through_the_kernel() {
        for token in [Token { index: 0, generation: 0 }, Token { index: 7, generation: u32::MAX }, Token::WAKER] {
            assert_eq!(Token::from_u64(token.to_u64()), token);
        }
    }

    #[test]
    fn a_slot_without_generations_left_is_retired() {
        let mut registry = Registry::new();
        let token = registry.insert(1);
        registry.slots[0].generation = u32::MAX;
        let last = Token { generation: u32::MAX, ..token };
        assert_eq!(registry.remove(last), Some(1));
        assert_ne!(registry.insert(2).index, token.index);
        assert_eq!(registry.get(last), None);
    }

    #[test]
    fn clearing_makes_all_tokens_stale() {
        let mut registry = Registry::new();
        let tokens: Vec<Token> = (0..10).map(|owner| registry.insert(owner)).collect();
        registry.remove(tokens[3]);
        assert_eq!(registry.iter().count(), 9);
        assert_eq!(registry.clear(), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(registry.is_empty());
        for _ in 0..10 {
            registry.insert(99);
        }
        assert!(tokens.iter().all(|&token| registry.get(token).is_none()));
    }
}
