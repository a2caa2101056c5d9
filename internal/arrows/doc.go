// Package arrows holds no code: its test is the map of which room may import
// which, and why, and fails when the code says otherwise.
//
// A room is a package. Arrows point to what a room may import; what the table
// does not allow is forbidden, for other rooms and for modules from outside.
// Tests follow the same arrows, and may use the rooms and modules that are
// there for tests.
package arrows
