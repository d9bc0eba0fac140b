package demo

import (
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tables are the files of a small dataset, by name.
type tables map[string]string

// smallTables is a year with everything in it that occurs in the real one: two courses, missing values, quoted fields, and what happens on
// one day.
func smallTables() tables {
	return tables{
		"courses.csv.gz": `"code_module","code_presentation","module_presentation_length"
"AAA","2013J","100"
"BBB","2014B","50"
`,
		"vle.csv.gz": `"id_site","code_module","code_presentation","activity_type","week_from","week_to"
"901","AAA","2013J","resource","?","?"
"902","BBB","2014B","oucontent","1","2"
"903","AAA","2013J","resource","?","?"
`,
		"assessments.csv.gz": `"code_module","code_presentation","id_assessment","assessment_type","date","weight"
"AAA","2013J","51","TMA","19","10"
"AAA","2013J","52","Exam","?","100"
"BBB","2014B","53","CMA","12","12.5"
`,
		"studentRegistration.csv.gz": `"code_module","code_presentation","id_student","date_registration","date_unregistration"
"AAA","2013J","7001","-10","?"
"AAA","2013J","7002","?","30"
"BBB","2014B","7001","-5","-5"
`,
		"studentAssessment.csv.gz": `id_assessment,id_student,date_submitted,is_banked,score
51,7001,18,0,78
51,7002,18,1,
52,7001,90,0,0
`,
		"studentInfo.csv.gz": `"code_module","code_presentation","id_student","gender","region","final_result"
"AAA","2013J","7001","M","East Anglian Region","Distinction"
"AAA","2013J","7002","F","Scotland","Withdrawn"
"BBB","2014B","7001","M","East Anglian Region","Pass"
`,
	}
}

// manyTables is a year of n students who do the same: enrol, hand in every one of 8 quizzes, and pass; the even ones with distinction.
// That is 13 events besides the courses', and half of them 14.
func manyTables(n int) tables {
	t := tables{
		"courses.csv.gz": "code_module,code_presentation,module_presentation_length\nAAA,2013B,200\n",
		"vle.csv.gz":     "id_site,code_module,code_presentation,activity_type\n",
	}
	var quizzes, enrolled, submitted, results strings.Builder
	quizzes.WriteString("code_module,code_presentation,id_assessment,assessment_type,date,weight\n")
	enrolled.WriteString("code_module,code_presentation,id_student,date_registration,date_unregistration\n")
	submitted.WriteString("id_assessment,id_student,date_submitted,is_banked,score\n")
	results.WriteString("code_module,code_presentation,id_student,final_result\n")
	for q := range 8 {
		fmt.Fprintf(&quizzes, "AAA,2013B,%d,TMA,%d,10\n", q, 20*q)
	}
	for s := range n {
		fmt.Fprintf(&enrolled, "AAA,2013B,%d,%d,\n", s, -s%30)
		fmt.Fprintf(&results, "AAA,2013B,%d,%s\n", s, []string{"Distinction", "Pass"}[s%2])
		for q := range 8 {
			fmt.Fprintf(&submitted, "%d,%d,%d,0,%d\n", q, s, 20*q-s%3, (s+q)%101)
		}
	}
	t["assessments.csv.gz"], t["studentRegistration.csv.gz"] = quizzes.String(), enrolled.String()
	t["studentAssessment.csv.gz"], t["studentInfo.csv.gz"] = submitted.String(), results.String()
	return t
}

// manyEvents is the number of events in manyTables(n).
func manyEvents(n int) int { return 1 + 8 + n*(1+8+1) + (n+1)/2 }

// write writes the tables into a directory.
func (t tables) write(tb testing.TB) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	for name, text := range t {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		zipped := gzip.NewWriter(f)
		if _, err := zipped.Write([]byte(text)); err != nil {
			tb.Fatal(err)
		}
		if err := zipped.Close(); err != nil {
			tb.Fatal(err)
		}
		if err := f.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func TestDatasetErrorsNameFileAndLine(t *testing.T) {
	tests := map[string]struct {
		table, old, with string
		want             string
	}{
		"no such file":         {"vle.csv.gz", "", "", "vle.csv.gz: give the directory"},
		"column missing":       {"vle.csv.gz", "activity_type", "kind", `vle.csv.gz: has no column "activity_type"`},
		"not a number":         {"studentRegistration.csv.gz", `"7002"`, `"x7"`, `studentRegistration.csv.gz line 3: id_student is "x7"`},
		"number missing":       {"studentRegistration.csv.gz", `"7002"`, `?`, "studentRegistration.csv.gz line 3: id_student is missing"},
		"unknown course":       {"vle.csv.gz", `"902","BBB"`, `"902","CCC"`, "vle.csv.gz line 3: course CCC 2014B is not in courses.csv.gz"},
		"unknown quiz":         {"studentAssessment.csv.gz", "52,7001", "59,7001", "studentAssessment.csv.gz line 4: assessment 59 is not in"},
		"strange presentation": {"courses.csv.gz", "2014B", "2014X", `courses.csv.gz line 3: presentation "2014X"`},
		"short line":           {"courses.csv.gz", `"BBB","2014B","50"`, `"BBB"`, "courses.csv.gz: record on line 3"},
		"empty file":           {"courses.csv.gz", smallTables()["courses.csv.gz"], "", "courses.csv.gz: its header"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			small := smallTables()
			if tt.old == "" {
				delete(small, tt.table)
			} else if small[tt.table] = strings.Replace(small[tt.table], tt.old, tt.with, 1); small[tt.table] == smallTables()[tt.table] {
				t.Fatal("the test changes nothing")
			}
			if _, err := readPlan(small.write(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, it should contain %q", err, tt.want)
			}
		})
	}
}
