//! How strong a sandbox's walls are, in the words that users see.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What separates a command from the machine. In rising order of strength, so that "at least" can
/// be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// An ordinary process that may read and write what was named, by Landlock and seccomp. There are
    /// no namespaces, and the workspace is a copy. Only where it was said to be acceptable.
    Landlock,
    /// Namespaces, a file system of what was named, Landlock and seccomp, under the kernel that
    /// everything else runs under.
    Namespace,
    /// The same but for Landlock, and in those walls gVisor's kernel instead of the machine's.
    Gvisor,
    /// The walls in a virtual machine that a program emulates, which is itself in such a sandbox.
    VmEmulated,
    /// The same in a virtual machine that the processor separates.
    Vm,
    /// Another machine's, as strong as it says.
    Remote,
}

impl Tier {
    /// Whether it is a virtual machine of this computer.
    pub fn is_machine(self) -> bool {
        matches!(self, Self::VmEmulated | Self::Vm)
    }

    /// What a user is told, wherever a result is shown.
    pub fn label(self) -> &'static str {
        match self {
            Self::Landlock => "Restricted process: shares kernel, pids and other host state",
            Self::Namespace => "Process sandbox: shares your kernel",
            Self::Gvisor => "User-space kernel (gVisor)",
            Self::VmEmulated => {
                "Virtual machine (emulated, slow: about 15 times). Not a hardware boundary"
            }
            Self::Vm => "Virtual machine (hardware)",
            Self::Remote => "Remote sandbox: isolation as that service states",
        }
    }

    /// The name in settings and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Namespace => "namespace",
            Self::Gvisor => "gvisor",
            Self::VmEmulated => "vm-emulated",
            Self::Vm => "vm",
            Self::Remote => "remote",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
