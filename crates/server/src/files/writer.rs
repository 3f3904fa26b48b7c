//! Takes the bytes of a blob whose size isn't known until it ends, and so neither is the place where it belongs.

use model::BlobHash;

use super::singles::Draft;
use super::{BlobWriter, DirectoryFiles, Files, FilesError, PACK_MAX};

pub(super) struct DirectoryWriter<'a> {
    files: &'a DirectoryFiles,
    content: Content,
}

enum Content {
    /// May still fit in a pack.
    Small(Vec<u8>),
    Large(Box<Draft>),
}

impl<'a> DirectoryWriter<'a> {
    pub fn new(files: &'a DirectoryFiles) -> Self {
        DirectoryWriter { files, content: Content::Small(Vec::new()) }
    }
}

impl BlobWriter for DirectoryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        self.files.disk.admit()?;
        match &mut self.content {
            Content::Small(content) if content.len() + bytes.len() <= PACK_MAX => {
                content.extend_from_slice(bytes);
                Ok(())
            }
            Content::Small(content) => {
                let mut draft = self.files.singles.draft()?;
                draft.write(content)?;
                draft.write(bytes)?;
                self.content = Content::Large(Box::new(draft));
                Ok(())
            }
            Content::Large(draft) => draft.write(bytes),
        }
    }

    fn finish(self: Box<Self>) -> Result<(BlobHash, u64), FilesError> {
        match self.content {
            Content::Small(content) => Ok((self.files.put(&content)?, content.len() as u64)),
            Content::Large(draft) => {
                let (hash, size) = draft.name();
                if self.files.present_size(&hash)?.is_none() {
                    self.files.adopt(*draft)?;
                }
                Ok((hash, size))
            }
        }
    }
}
