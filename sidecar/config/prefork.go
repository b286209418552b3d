package config

import "runtime"

// prefork is on where it can be. Elsewhere it must not seem to be.
func (in *interpreter) prefork(v *value, s *Settings, graflow *value) {
	if s.App.Worker.Socket.Path != "" {
		s.Prefork = false // the part that starts the workers has to know
		in.boolean(v, new(bool))
		return
	}
	graflows := len(s.Adapter()) > 0
	s.Prefork = graflows && runtime.GOOS == "linux"
	wanted := s.Prefork
	in.boolean(v, &wanted)
	switch {
	case !wanted || s.Prefork:
		s.Prefork = wanted
	case !graflows:
		in.complain(v, "%s is for Graflow's workers: it goes with %s only", v.name(), graflow.name())
	default:
		in.complain(v, "%s needs Linux: set it to false", v.name())
	}
}
