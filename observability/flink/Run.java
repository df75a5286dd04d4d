import java.nio.file.*;
import java.util.*;
import java.util.regex.*;
import org.apache.flink.table.api.*;

/**
 * Runs SQL files in their order on an embedded Flink: `java -cp 'lib/*' Run.java NAME=VALUE... FILE...`.
 * `${NAME}` in a file becomes VALUE. A statement ends with the semicolon that ends a line; a statement set with `END;`.
 * What is explained or selected is printed; what is inserted is awaited.
 */
public final class Run {
    public static void main(String[] arguments) throws Exception {
        Map<String, String> values = new HashMap<>();
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        for (String argument : arguments) {
            int equals = argument.indexOf('=');
            if (equals > 0 && !argument.endsWith(".sql")) {
                values.put(argument.substring(0, equals), argument.substring(equals + 1));
                continue;
            }
            for (String statement : statements(Files.readString(Path.of(argument)))) {
                try {
                    run(tables, filled(statement, values));
                } catch (Exception error) {
                    throw new IllegalStateException(argument + ": " + statement.lines().findFirst().orElse(""), error);
                }
            }
        }
    }

    private static void run(TableEnvironment tables, String statement) throws Exception {
        Matcher set = Pattern.compile("SET '([^']+)' = '([^']*)'").matcher(statement);
        if (set.matches()) {
            tables.getConfig().set(set.group(1), set.group(2));
            return;
        }
        TableResult result = tables.executeSql(statement);
        if (statement.startsWith("EXPLAIN") || statement.startsWith("SELECT")) {
            result.print();
        } else {
            result.await();
        }
    }

    private static List<String> statements(String file) {
        List<String> found = new ArrayList<>();
        StringBuilder statement = new StringBuilder();
        boolean inSet = false;
        for (String line : file.split("\n")) {
            if (line.startsWith("--") || (line.isBlank() && statement.isEmpty())) {
                continue;
            }
            inSet |= line.equals("BEGIN");
            statement.append(line).append('\n');
            if (inSet ? line.equals("END;") : line.endsWith(";")) {
                String text = statement.toString().stripTrailing();
                // The planner wants the last semicolon of a statement set gone, and those inside it kept.
                found.add(text.substring(0, text.length() - 1));
                statement.setLength(0);
                inSet = false;
            }
        }
        if (!statement.toString().isBlank()) {
            throw new IllegalArgumentException("a statement has no end: " + statement);
        }
        return found;
    }

    private static String filled(String statement, Map<String, String> values) {
        return Pattern.compile("\\$\\{([A-Z_]+)}").matcher(statement).replaceAll(match -> {
            String value = values.get(match.group(1));
            if (value == null) {
                throw new IllegalArgumentException("nothing was given for " + match.group());
            }
            return Matcher.quoteReplacement(value);
        });
    }
}
