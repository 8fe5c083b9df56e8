/** The few directives of strftime that chat templates use to tell the date, in English as Python does. */
export function strftime(time: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return format.replace(/%[YymdbBHMS%]/g, (directive) => {
    switch (directive) {
      case "%Y":
        return String(time.getFullYear());
      case "%y":
        return two(time.getFullYear() % 100);
      case "%m":
        return two(time.getMonth() + 1);
      case "%d":
        return two(time.getDate());
      case "%b":
        return month(time).slice(0, 3);
      case "%B":
        return month(time);
      case "%H":
        return two(time.getHours());
      case "%M":
        return two(time.getMinutes());
      case "%S":
        return two(time.getSeconds());
      default:
        return "%";
    }
  });
}

function month(time: Date): string {
  return months[time.getMonth()] ?? "";
}

/** Written out: a template may ask a million times, and the runtime takes 50 µs to look one up. */
const months = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];
