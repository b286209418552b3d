package config

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// socket takes the path of a Unix socket.
func (in *interpreter) socket(v *value, dst *string) {
	const longest = 94 // with what is added to it the system takes 107 bytes
	set(in, v, dst, fmt.Sprintf("an absolute path of at most %d bytes", longest), "", func(s string) (string, bool) {
		return s, strings.HasPrefix(s, "/") && len(s) <= longest && !strings.ContainsAny(s, "\x00\r\n?#%")
	})
}

// fileMode takes the permissions of a socket: at least read and write for its
// owner, and any for its group. It takes none for other users: with those, any
// process on the machine could get tasks.
func (in *interpreter) fileMode(v *value, dst *fs.FileMode) {
	v.example = ", as in 0600"
	set(in, v, dst, "an octal number from 0600 to 0770, with no rights for others", fmt.Sprintf("%04o", *dst), func(s string) (fs.FileMode, bool) {
		n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
		return fs.FileMode(n), err == nil && n&^0o770 == 0 && n&0o600 == 0o600
	})
}

// socketConflicts finds what does not go with workers in another container.
func (vs *variables) socketConflicts(in *interpreter, mode Mode) {
	o := &vs.own
	if !o.Socket.given() {
		return
	}
	if mode != ModeRPC {
		in.complain(&o.Mode, "%s is %s, and %s goes with rpc only: the other modes start processes of their own", o.Mode.name(), mode, o.Socket.name())
	}
	if v := &o.MaxChildRSS; v.given() {
		in.complain(v, "%s does not go with %s: the memory of a process in another container cannot be seen; bound that container's", v.name(), o.Socket.name())
	}
}
