// Writes go_regexp_cases.json, the answers of Go's regexp package that core/patterns.py must give as well:
//
//	go run tests/core/go_regexp_cases.go > tests/core/go_regexp_cases.json
//
// A case is [expression, input, groups' spans or null, template, replaced text], or [expression, null] where Go
// refuses the expression. Spans count characters. A byte that is no UTF-8 is written as Python's surrogateescape.

//go:build ignore

package main

import (
	"fmt"
	"math/rand"
	"regexp"
	"strings"
	"unicode/utf8"
)

var expressions = []string{
	``, `a`, `a*`, `a+?`, `(a*)(b*)`, `x*`, `$`, `^`, `a$`, `^a`, `\z`, `\Aa\z`, `(?m)^a$`, `.`, `.*`, `(?s).*`, `[^/]*`, `[^/]`,
	`^workspace/[^/]*/.*`, `^workspace/`, `^clusters/([^/]*)/([^/]*)/([^/]*)/.*`, `clusters/(?P<env>[^/]+)/(?<region>[^/]+)/`,
	`^(?:dev|lab)/([^/]*)/`, `^(dev|lab)/([^/]*)/`, `dev/|lab/`, `^dev/|lab/`, `src/\b`, `src/$`, `^env/[^/]*/[^/]*/`,
	`(a)|(b)`, `(a|ab)(c|bcd)(d*)`, `(?:(a)|b)*`, `(a|b)*?c`, `(|a)*`, `(|a)+`, `(a*)*`, `(a*)+`, `(a?)*?b`, `(?:a*)*`, `(^a|b)+`,
	`(?i)straße`, `(?i)K`, `(?i)ſ`, `(?i:A)b`, `(?U)a+`, `(?U)a+?`, `(?-i)a`, `(?is)A.b`, `é`, `[é-ü]+`, `\pL+`, `\PL`, `\p{Greek}`, `\p{^L}`,
	`\d+`, `\w+`, `\s`, `\bfoo\b`, `\B.`, `[[:alpha:]]+`, `[[:^alpha:]]`, `[[:word:]]`, `[\d\s]`, `[^\d]`, `[a\]b]`, `[]a]`, `[^]a]`, `[a-]`, `[-a]`,
	`\Qa.b\E`, `\Qa.b`, `\Q\C\E`, `\\C`, `\/\-\_`, `\.`, `\x41`, `\x{e9}`, `\101`, `\07`, `\a\f\t\n\r\v`, `x{,2}`, `x{2}`, `x{2,}`, `x{0}`, `x{1,2}?`,
	`x{1000}`, `{`, `a{`, `a{1`, `a{1,`, `}`, `]`, `a]`, `(?:)`, `()`, `(())`, `(?P<n>a)(?P<m>b)?`, `(?P<n_1>.)`, `(\$)`, `[$]`, `\$`, "a\tb", "a\nb", "\x00",
	`�`, `[^a]`, `\x{10FFFF}`, `[\x{80}-\x{10FFFF}]+`, `(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)`, `\b`, `\B`, `(?:^|/)telefonistka\.yaml$`, `a|b|`, `|a`, `a||b`,
	// what Go refuses
	`\C`, `[\C]`, `a\C`, `(`, `)`, `a)`, `[`, `[a`, `[z-a]`, `[a-\d]`, `*`, `+a`, `?`, `a**`, `a*+`, `a++`, `a??*`, `a{2}{3}`, `(?=a)`, `(?!a)`, `(?<=a)`, `(?>a)`,
	`\1`, `(a)\1`, `\Z`, `\h`, `\é`, `\8`, `x{1001}`, `x{2,1}`, `(x{500}){3}`, `((a{100}){10}){10}`, `\`, `a\`, `(?P<n>a)(?P<n>b)`, `(?P<>a)`, `(?P<n`, `(?P=n)`, `(?x)a`, `(?`,
	`\pX`, `\p{Nope}`, `\p`, `\x{110000}`, `\x{`, `\xg`, `[[:nope:]]`, `[[:alpha:]`, `\Q(\E)`, `(?i`, `(?#c)`, `(?(1)a|b)`, `\G`, `\R`, `\X`, `\u0041`, `$*`, `^*`, `\b+`,
}

var inputs = []string{
	"", "a", "aa", "ab", "ba", "abc", "abcd", "aXa", "b", "a\n", "\na\n", "a\r\nb", "foo bar", "foobar foo", "workspace/x/f", "clusters/prod/eu/c1/app/f",
	"dev/x/f", "lab/x/f", "src/x/a\nb", "src/", "env/stg/c1/nginx/v", "xx", "xxxx", "x{,2}", "a.b", "axb", "A.B", "Straße STRASSE", "Kk\u212a", "ſsS", "éa", "ÄÖÜäöü", "λόγος",
	"日本語", "🚀a", "\xff", "a\xffb", "\xe2\x82", "\xed\xa0\x80x", "a\xf0\x9f", "\u00e9\xe9", "�", "$1", "a$b", "a]b-", "\x00a", "A1_ 2", "telefonistka.yaml", "a/telefonistka.yaml", "\t\v",
}

var templates = []string{
	"", "x", "$0", "[$1]", "${1}", "$1x", "${1}x", "$10", "${10}", "$2-$1", "$$", "$$1", "$", "a$", "${", "${}", "${1", "$-", "$ 1", `\1`, "$n", "${n}", "${env}.${region}",
	"$env_x", "${01}", "$00", "$9", "${999999999999}", "${é}", "$é", "${1}${2}${3}", "{2}", "https://k-${3}.${1}.service.{2}.example.com/$$", "$1$1", "${1}\xff", "$_", "${n_1}",
	"$٣", "${1 }", "$$$1",
}

var letters = []string{"a", "b", "c", "/", ".", "*", "+", "?", "(", ")", "(?:", "|", "[^/]*", "[ab]", "^", "$", `\b`, `\w`, "é", "{2}", ".*", `\/`, "(?P<n>"}

func quoted(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for len(text) > 0 {
		character, size := utf8.DecodeRuneInString(text)
		switch {
		case character == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\udc%02x`, text[0])
		case character == '"' || character == '\\':
			out.WriteByte('\\')
			out.WriteRune(character)
		case character < 0x20:
			fmt.Fprintf(&out, `\u%04x`, character)
		default:
			out.WriteRune(character)
		}
		text = text[size:]
	}
	out.WriteByte('"')
	return out.String()
}

func spans(text string, found []int) string {
	if found == nil {
		return "null"
	}
	var pairs []string
	for i := 0; i < len(found); i += 2 {
		pair := "[-1,-1]"
		if found[i] >= 0 {
			pair = fmt.Sprintf("[%d,%d]", utf8.RuneCountInString(text[:found[i]]), utf8.RuneCountInString(text[:found[i+1]]))
		}
		pairs = append(pairs, pair)
	}
	return "[" + strings.Join(pairs, ",") + "]"
}

func main() {
	random := rand.New(rand.NewSource(1))
	pick := func(from []string) string { return from[random.Intn(len(from))] }
	var lines []string
	add := func(expression string, inputs ...string) {
		compiled, err := regexp.Compile(expression)
		if err != nil {
			lines = append(lines, fmt.Sprintf("[%s,null]", quoted(expression)))
			return
		}
		for _, input := range inputs {
			template := pick(templates)
			lines = append(lines, fmt.Sprintf("[%s,%s,%s,%s,%s]", quoted(expression), quoted(input),
				spans(input, compiled.FindStringSubmatchIndex(input)), quoted(template), quoted(compiled.ReplaceAllString(input, template))))
		}
	}
	for _, expression := range expressions {
		add(expression, pick(inputs), pick(inputs), pick(inputs))
	}
	for _, template := range templates {
		compiled := regexp.MustCompile(`(?P<n>a)(b)?`)
		lines = append(lines, fmt.Sprintf("[%s,%s,%s,%s,%s]", quoted(compiled.String()), `"xabay"`,
			spans("xabay", compiled.FindStringSubmatchIndex("xabay")), quoted(template), quoted(compiled.ReplaceAllString("xabay", template))))
	}
	for range 500 {
		var expression strings.Builder
		for range 1 + random.Intn(7) {
			expression.WriteString(pick(letters))
		}
		add(expression.String(), pick(inputs))
	}
	fmt.Println("[\n" + strings.Join(lines, ",\n") + "\n]")
}
