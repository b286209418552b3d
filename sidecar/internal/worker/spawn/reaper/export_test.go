package reaper

// LockForTest locks the claims until the returned function is called.
func LockForTest() (unlock func()) {
	family.mu.Lock()
	return family.mu.Unlock
}
