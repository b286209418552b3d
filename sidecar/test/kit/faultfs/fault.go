package faultfs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Fault is what happens to an operation. The zero value is a success.
type Fault struct {
	// Err is the error. The operation does not happen, unless Applied is set.
	Err     error
	Applied bool
	// Part makes a read or a write do half of its bytes. Without an Err that is a short
	// write that claims to have succeeded.
	Part bool
	// Lost makes an fsync drop what is not on the disk yet, as Linux does after an error.
	Lost bool
	// Hang makes the operation wait for FS.Resume, and succeed then.
	Hang bool
}

func (f Fault) String() string {
	if f.Hang {
		return "hangs"
	}
	s := "fails"
	if f.Err != nil {
		s = fmt.Sprintf("fails with %q", f.Err)
	}
	for text, is := range map[string]bool{", and happens": f.Applied, ", in half": f.Part, ", and the data are lost": f.Lost} {
		if is {
			s += text
		}
	}
	return s
}

// Faults returns all ways in which an operation can fail, hangs apart.
func Faults(op Op) (list []Fault) {
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EINTR} {
		list = append(list, Fault{Err: err})
	}
	// An error does not say that nothing happened: the reply of a server was lost, or the
	// data reached the disk and the journal did not.
	list = append(list, Fault{Err: unix.EIO, Applied: true})
	switch op {
	case Write:
		list = append(list, Fault{Err: unix.ENOSPC, Applied: true, Part: true}, Fault{Part: true})
	case Read:
		list = append(list, Fault{Err: unix.EIO, Applied: true, Part: true}, Fault{Part: true})
	case Sync:
		list = append(list, Fault{Err: unix.EIO, Applied: true, Lost: true})
	case Lock:
		list = append(list, Fault{Err: unix.ENOLCK})
	default:
	}
	return list
}
