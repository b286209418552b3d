package rpc

// replaced tells why another child takes this one's place: it was ended for what it
// did, it was asked to go or went by itself, or it died.
func (p *Pool) replaced(c *child, asked bool) {
	c.mu.Lock()
	fault := c.fault != ""
	c.mu.Unlock()
	switch {
	case fault:
		p.tell(p.cfg.Replaced, "fault")
	case asked, c.quit():
		p.tell(p.cfg.Replaced, "recycled")
	default:
		p.tell(p.cfg.Replaced, "crash")
	}
}

func (p *Pool) tell(who func(string), what string) {
	if who != nil {
		who(what)
	}
}

// misbehaved counts a breach of the protocol.
func (c *child) misbehaved(what string) {
	if c.cfg.Misbehaved != nil {
		c.cfg.Misbehaved(what)
	}
}
