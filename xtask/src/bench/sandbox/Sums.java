/** Work for a Java virtual machine: code that gets hot, garbage, and two threads. Prints one number. */
public class Sums {
    static long work(int seed) {
        long sum = 0;
        java.util.HashMap<Integer, String> map = new java.util.HashMap<>();
        for (int n = 0; n < 1_500_000; n++) {
            int key = Integer.rotateLeft(n * 0x9E3779B9 + seed, 7) & 0xFFFF;
            String old = map.put(key, Integer.toString(n));
            sum += old == null ? key : old.length();
        }
        for (int n = 1; n < 60_000_000; n++) {
            sum += (sum ^ n) % 7;
        }
        return sum;
    }

    public static void main(String[] arguments) throws InterruptedException {
        long[] sums = new long[2];
        Thread[] threads = new Thread[sums.length];
        for (int n = 0; n < sums.length; n++) {
            int number = n;
            threads[n] = new Thread(() -> sums[number] = work(number));
            threads[n].start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(sums[0] + sums[1]);
    }
}
