//go:build race

package layerstore_test

// The race detector multiplies memory.
const maxMemory = 400 << 20
