// Writes go_yaml_cases.json, what the original's YAML library decodes and core/config.py must decode as well.
// In an empty directory, with this file:
//
//	go mod init cases && go get gopkg.in/yaml.v2@v2.4.0 && go run go_yaml_cases.go > go_yaml_cases.json
//
// A case is [text, decoded], with the keys of compatibility's reach in `decoded`, or null where the text is refused.

//go:build ignore

package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"gopkg.in/yaml.v2"
)

type conditions struct {
	Labels    []string `yaml:"prHasLabels" json:"prHasLabels"`
	AutoMerge bool     `yaml:"autoMerge" json:"autoMerge"`
}

type pull struct {
	Targets     []string `yaml:"targetPaths" json:"targetPaths"`
	Description string   `yaml:"targetDescription" json:"targetDescription"`
}

type flow struct {
	Source     string     `yaml:"sourcePath" json:"sourcePath"`
	Depth      int        `yaml:"componentPathExtraDepth" json:"componentPathExtraDepth"`
	Conditions conditions `yaml:"conditions" json:"conditions"`
	Pulls      []pull     `yaml:"promotionPrs" json:"promotionPrs"`
}

type argocd struct {
	Comment bool   `yaml:"commentDiffonPR" json:"commentDiffonPR"`
	Sync    string `yaml:"allowSyncfromBranchPathRegex" json:"allowSyncfromBranchPathRegex"`
}

type config struct {
	Flows  []flow            `yaml:"promotionPaths" json:"promotionPaths"`
	DryRun bool              `yaml:"dryRunMode" json:"dryRunMode"`
	Toggle map[string]string `yaml:"toggleCommitStatus" json:"toggleCommitStatus"`
	Argocd argocd            `yaml:"argocd" json:"argocd"`
}

func main() {
	texts := []string{
		"", "null", "~", "# nothing", "---", "--- {}", "[]", "text", "{}", "\ufeffdryRunMode: yes", "unknown: 1\ndryRunMode: on", "DryRunMode: true",
		"dryRunMode: true\ndryRunMode: no", "dryRunMode: yes\n---\ndryRunMode: no", "dryRunMode: yes\n...\ndryRunMode: no\n", "---\n---\ndryRunMode: yes",
		"{dryRunMode: yes} garbage", "dryRunMode: yes\n]", "dryRunMode: yes\n\t", "\tdryRunMode: yes", "dryRunMode:\tyes", "dryRunMode: \t yes\t", "dryRunMode: yes\t# c", "argocd:\t# c\n  commentDiffonPR:\ty", "argocd:\n\tcommentDiffonPR: y", "argocd: {\n\tcommentDiffonPR: y\n}", "dryRunMode\t: y", "promotionPaths:\n-\tsourcePath: a\n", "promotionPaths:\n- sourcePath:\ta\tb\t\n", "dryRunMode: y\n\t# c", "dryRunMode: y\n\t\nargocd: {}", "toggleCommitStatus: {a:\tb\t,\tc: d}", "dryRunMode: yes\r\nargocd: {}\r\n", "'dryRunMode': y", "? dryRunMode\n: y", "!!str dryRunMode: y",
		"argocd: {commentDiffonPR: yes}\nargocd: {allowSyncfromBranchPathRegex: a}", "argocd: {commentDiffonPR: yes}\nargocd: ~\n", "argocd: []", "argocd: text", "argocd: ''", "argocd:",
		"toggleCommitStatus: {a: b}\ntoggleCommitStatus: {c: d}", "toggleCommitStatus: {yes: no, ~: x, 1.0: 010, a: ~, a: 2}", "toggleCommitStatus: {<<: {a: b}, c: d}", "toggleCommitStatus: {a: {}}", "toggleCommitStatus: {[a]: b}", "toggleCommitStatus: []", "toggleCommitStatus: ~",
		"x: &a {dryRunMode: yes}\n<<: *a", "dryRunMode: no\n<<: {dryRunMode: yes}", "<<: {dryRunMode: yes}\ndryRunMode: no", "<<: [{dryRunMode: no}, {dryRunMode: yes}]", "'<<': {dryRunMode: yes}", "<<: ~", "<<: text", "<<: [~]", "!!merge <<: {dryRunMode: yes}", "a: &a b\n*a : c",
		"a: &k dryRunMode\n*k : yes", "x: &a [b]\npromotionPaths: [{promotionPrs: [{targetPaths: *a}]}]", "x: &a {sourcePath: a}\npromotionPaths: [*a, {<<: *a, componentPathExtraDepth: 1}]", "promotionPaths: [*a]", "promotionPaths: &a [*a]",
		"x: &a 1\ny: &a 2\npromotionPaths: [{sourcePath: *a}]", "x: &c {conditions: {autoMerge: yes}}\npromotionPaths: [{<<: *c, conditions: {prHasLabels: [a]}}]", "promotionPaths: {}", "promotionPaths: text", "promotionPaths: ''", "promotionPaths: ~", "promotionPaths: [~, ~]", "promotionPaths: ['']", "promotionPaths: [[]]",
		"promotionPaths:\n-\n", "promotionPaths:\n- sourcePath: a\n-\n", "promotionPaths: !!seq []", "promotionPaths: !custom [{sourcePath: a}]", "%YAML 1.1\n---\ndryRunMode: yes", "promotionPaths: [{conditions: }]", "promotionPaths: [{conditions: {prHasLabels: [], autoMerge: }}]", "promotionPaths: [{conditions: {prHasLabels: ~}}]", "promotionPaths: [{conditions: {prHasLabels: a}}]",
		"promotionPaths: [{sourcePath: a, sourcePath: ~}]", "promotionPaths: [{sourcePath: >\n  a\n  b\n}]", "promotionPaths:\n- sourcePath: |\n    a\n    b\n", "promotionPaths:\n- sourcePath: |-\n    a\n", "promotionPaths:\n- sourcePath: a\n    b\n", "promotionPaths:\n- sourcePath: a # c\n", "promotionPaths:\n- sourcePath: a#b\n", "promotionPaths:\n- sourcePath: [a\n", "promotionPaths:\n  sourcePath: a\n", "promotionPaths:\n- sourcePath: a: b\n", "promotionPaths:\n- sourcePath: @a\n", "promotionPaths:\n- sourcePath: *\n", "promotionPaths:\n- sourcePath: \"a\\/b\\x41\\u00e9\"\n", "promotionPaths:\n- sourcePath: \"\\q\"\n", "promotionPaths:\n- sourcePath: \"\\uD800\"\n", "promotionPaths:\n- {sourcePath: a:b}\n", "promotionPaths:\n- {sourcePath: a?b, componentPathExtraDepth: 1}\n", "a: 'it''s'\ndryRunMode: y", "a: b\n c: d", "dryRunMode: yes\x00", "a: \x01", "a: \u0085b", "a: \u2028b", "dryRunMode: yes\n  \n\n#x", "{", "}", "a", "- a", "? a", ": a", "a:\n- b\n-c", "a: 'b", "&a &b c", "!!a b", "!x!a b",
	}
	booleans := "y Y yes Yes YES yEs n N no No NO true True TRUE tRUE false False FALSE on On ON off Off OFF t f T F 1 0 ~ null Null NULL nULL 'true' \"yes\" text 1.0 [] {} |- !!bool&yes !!bool&'yes' !!str&yes !!int&1 !!bool&1 !x&yes !&yes !!null&~ !!null&''"
	integers := "0 1 -1 +1 007 010 08 0o10 0O10 0x10 0X1f 0b11 -0b11 -0x10 1_000 _1 1__0 0x_1 2.0 2.5 -2.5 1e3 1E3 1e-3 .5 -.5 . 5. 1.e1 +.5 .5_0 1_0.5 '2' \"2\" !!int&2 !!int&'2' !!str&2 !!float&2 !!float&2.5 !!int&2.5 !!bool&2 12:30 2001-01-01 2001-01-01T00:00:00Z .inf .nan 9223372036854775807 9223372036854775808 -9223372036854775808 1e400 true y ~ text [] {} 00 -0 0b2 0xg 1,000 0x ++1 +-1"
	strings_ := "text yes ~ null Null 1.0 010 0x10 1e3 2001-01-01 .inf 'a' '~' '' \"\" !!str&yes !!str&~ !!str&'' !!int&5 !!int&x !!bool&yes !!bool&x !!float&1 !!binary&YWI= !!binary&YWI !!binary&'' !!null&'' !x&y !&~ <<  = [] {} - ? @ %a a%b [a !!float&x !!timestamp&2001-01-01"
	for _, word := range strings.Fields(booleans) {
		texts = append(texts, "dryRunMode: "+strings.ReplaceAll(word, "&", " "))
	}
	for _, word := range strings.Fields(integers) {
		texts = append(texts, "promotionPaths: [componentPathExtraDepth: "+strings.ReplaceAll(word, "&", " ")+"]")
	}
	for _, word := range strings.Fields(strings_) {
		texts = append(texts, "promotionPaths:\n- sourcePath: "+strings.ReplaceAll(word, "&", " "))
		texts = append(texts, "promotionPaths: [{promotionPrs: [{targetPaths: ["+strings.ReplaceAll(word, "&", " ")+"]}]}]")
	}
	var lines []string
	for _, text := range texts {
		var decoded config
		answer := []any{text, &decoded}
		if err := yaml.Unmarshal([]byte(text), &decoded); err != nil {
			answer[1] = nil
		}
		line, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		lines = append(lines, string(line))
	}
	fmt.Println("[\n" + strings.Join(lines, ",\n") + "\n]")
}
