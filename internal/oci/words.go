package oci

import (
	"fmt"
	"strings"
)

// splitWords splits what follows an instruction at spaces outside of quotes.
// Quotes and backslashes stay, for expandWord. There is at least one word.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted := byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted != '\'' && i+1 < len(s):
			word.WriteString(s[i : i+2])
			i++
			continue
		case quoted != 0 && c == quoted:
			quoted = 0
		case quoted == 0 && (c == '"' || c == '\''):
			quoted = c
		case quoted == 0 && (c == ' ' || c == '\t'):
			if word.Len() > 0 {
				words = append(words, word.String())
				word.Reset()
			}
			continue
		}
		word.WriteByte(s[i])
	}
	if quoted != 0 {
		return nil, fmt.Errorf("%c is not closed", quoted)
	}
	if word.Len() > 0 || len(words) == 0 {
		words = append(words, word.String())
	}
	return words, nil
}

// expandWord takes quotes away and puts values in place of $NAME, ${NAME},
// ${NAME:-ELSE} and ${NAME:+THEN}. A variable that there is not is empty.
func expandWord(s string, env []string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\'':
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return "", fmt.Errorf("%c is not closed", c)
			}
			out.WriteString(s[i+1 : i+1+end])
			i += end + 1
		case '"':
			end := closingQuote(s, i)
			if end < 0 {
				return "", fmt.Errorf("%c is not closed", c)
			}
			in, err := expandQuoted(s[i+1:end], env)
			if err != nil {
				return "", err
			}
			out.WriteString(in)
			i = end
		case '\\':
			if i+1 < len(s) {
				i++
			}
			out.WriteByte(s[i])
		case '$':
			n, err := writeVariable(&out, s[i:], env)
			if err != nil {
				return "", err
			}
			i += n - 1
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), nil
}

// closingQuote finds the end of what "..." begins at i; -1 if there is none.
func closingQuote(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case '"':
			return j
		}
	}
	return -1
}

// expandQuoted is expandWord within double quotes, where a backslash stands for
// itself except before what would mean something.
func expandQuoted(s string, env []string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`"\$`, s[i+1]) >= 0:
			i++
			out.WriteByte(s[i])
		case c == '$':
			n, err := writeVariable(&out, s[i:], env)
			if err != nil {
				return "", err
			}
			i += n - 1
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), nil
}

func writeVariable(out *strings.Builder, s string, env []string) (n int, err error) {
	value, n, err := variable(s, env)
	out.WriteString(value)
	return n, err
}

// variable expands what begins with a $, and tells how long that is.
func variable(s string, env []string) (value string, n int, err error) {
	if !strings.HasPrefix(s, "${") {
		name := s[1:]
		if end := strings.IndexFunc(name, func(r rune) bool { return !isNameRune(r) }); end >= 0 {
			name = name[:end]
		}
		if name == "" {
			return "$", 1, nil
		}
		value, _ = lookupEnv(env, name)
		return value, 1 + len(name), nil
	}
	end := closingBrace(s)
	if end < 0 {
		return "", 0, fmt.Errorf("%q is not closed", s)
	}
	name, n := s[2:end], end+1
	name, op, hasOp := strings.Cut(name, ":")
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isNameRune(r) }) {
		return "", 0, fmt.Errorf("%q is no variable", s[:n])
	}
	value, _ = lookupEnv(env, name)
	switch {
	case !hasOp:
	case strings.HasPrefix(op, "-"):
		if value == "" {
			value, err = expandWord(op[1:], env)
		}
	case strings.HasPrefix(op, "+"):
		if value != "" {
			value, err = expandWord(op[1:], env)
		}
	default:
		err = fmt.Errorf("%q: only ${NAME:-ELSE} and ${NAME:+THEN} are known", s[:n])
	}
	return value, n, err
}

// closingBrace finds the end of what "${" begins; -1 if there is none.
func closingBrace(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func isNameRune(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func lookupEnv(env []string, name string) (string, bool) {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value, true
		}
	}
	return "", false
}
