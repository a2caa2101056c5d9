package histories

// User is whom a process belongs to.
type User struct {
	UID, GID int
	Groups   []int
	Umask    int
}

// Users are those whose processes make mounted histories. The first is root.
var Users = []User{
	{0, 0, nil, 0o022},
	{1000, 1000, []int{2000}, 0o002},
	{1001, 2000, []int{2000, 1001}, 0o077},
}
