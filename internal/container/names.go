package container

import (
	"fmt"
	"math/rand/v2"
	"regexp"
)

// validName is the rule that docker has for container names.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// validSnapshot is the same without the two characters at least.
var validSnapshot = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

const maxName = 128

func checkName(name string) error {
	if !validName.MatchString(name) || len(name) > maxName {
		return fmt.Errorf("container name %q: must be 2 to %d of [a-zA-Z0-9_.-], a letter or digit first", name, maxName)
	}
	if isID(name) {
		return fmt.Errorf("container name %q: looks like an id", name)
	}
	return nil
}

// newName makes up a name that is not taken.
func newName(taken func(string) bool) string {
	for n := 0; ; n++ {
		name := adjectives[rand.IntN(len(adjectives))] + "_" + nouns[rand.IntN(len(nouns))]
		if n > 0 {
			name += fmt.Sprint(n + 1)
		}
		if !taken(name) {
			return name
		}
	}
}

// The names of layered things, and how they can be.
var (
	adjectives = []string{
		"amber", "ancient", "arid", "ashen", "banded", "basal", "bedded", "blue", "bold", "brittle",
		"broad", "buried", "calm", "chalky", "clear", "coarse", "cool", "coral", "crisp", "curved",
		"deep", "dense", "drifting", "dry", "dusty", "early", "even", "faint", "fertile", "fine",
		"firm", "flat", "folded", "fossil", "fresh", "gentle", "glacial", "golden", "gray", "green",
		"hidden", "high", "hollow", "icy", "inland", "jagged", "late", "level", "light", "lunar",
		"marine", "mellow", "misty", "mossy", "narrow", "northern", "oblique", "open", "pale", "patient",
		"placid", "polar", "porous", "quiet", "raised", "red", "rich", "rocky", "rough", "rugged",
		"salty", "sandy", "silent", "slow", "smooth", "soft", "solid", "southern", "stony", "sunny",
		"tidal", "tilted", "upper", "vast", "warm", "western", "wide", "wild", "windy", "young",
	}
	nouns = []string{
		"agate", "alcove", "arch", "atoll", "bank", "basalt", "basin", "bay", "beach", "bluff",
		"boulder", "brook", "butte", "canyon", "cape", "cave", "chalk", "chert", "cirque", "clay",
		"cliff", "coal", "cobble", "coulee", "crater", "creek", "crest", "crystal", "delta", "dolomite",
		"dome", "dune", "esker", "fault", "fen", "fjord", "flint", "gabbro", "garnet", "geode",
		"glacier", "glen", "gneiss", "gorge", "granite", "gravel", "grotto", "gully", "gypsum", "halite",
		"heath", "hill", "horst", "island", "karst", "knoll", "lagoon", "lava", "ledge", "limestone",
		"loam", "loess", "marble", "marl", "marsh", "mesa", "mica", "moraine", "obsidian", "onyx",
		"opal", "outcrop", "peak", "peat", "pebble", "plain", "plateau", "pumice", "quarry", "quartz",
		"ravine", "reef", "ridge", "sandstone", "schist", "seam", "shale", "shoal", "silt", "slate",
		"spring", "steppe", "talus", "terrace", "topaz", "tuff", "valley", "vein", "zeolite", "zircon",
	}
)
